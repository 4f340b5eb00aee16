"""/v1/judges: start, list, look, cancel."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key
from apps.core.leases import Keeper
from apps.datasets.models import Judge, Run
from apps.datasets.runs.progress import JudgeTopic
from apps.models.models import Model
from tests.conftest import Tenant, client
from tests.datasets import batchwork
from tests.datasets.batchwork import completion
from tests.datasets.cast import make_run, make_version

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(make_version(project), {"small": ["Paris", "Lima", None]})


def post(api: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    return api.post(f"/v1/{path}", body or {}, format="json", headers=headers)


def wanted(run: Run, /, **more: Any) -> dict[str, Any]:
    return {"run": run.uid, "model": "test-model", "rubric": "Is it right?"} | more


def test_it_works(api: APIClient, run: Run, model: Model, keeper: Keeper) -> None:
    made = post(api, "judges", wanted(run), **{"Idempotency-Key": "once"})
    assert made.status_code == 200, made.json()
    judge = made.json()
    assert judge == judge | {
        "object": "judge", "run": run.uid, "model": "test-model", "rubric": "Is it right?", "only_unrated": False,
        "status": "queued", "total": 2, "scored": 0, "failed": 0, "message": "", "batches": [], "ended_at": None,
    }  # fmt: skip
    assert post(api, "judges", wanted(run), **{"Idempotency-Key": "once"}).json() == judge
    batchwork.finish(keeper, lambda _: completion("4"))
    shown = api.get(f"/v1/judges/{judge['id']}").json()
    assert (shown["status"], shown["scored"], shown["failed"]) == ("completed", 2, 0)
    assert [each["id"] for each in api.get("/v1/judges", {"run": run.uid}).json()["data"]] == [judge["id"]]
    refused = post(api, f"judges/{judge['id']}/cancel")
    assert (refused.status_code, "it has ended" in refused.json()["error"]["message"]) == (409, True)


def test_it_is_cancelled_before_it_is_sent(api: APIClient, run: Run, model: Model, keeper: Keeper) -> None:
    judge = post(api, "judges", wanted(run)).json()
    assert post(api, f"judges/{judge['id']}/cancel").json()["status"] == "cancelled"
    assert post(api, f"judges/{judge['id']}/cancel").status_code == 200
    batchwork.finish(keeper)
    assert api.get(f"/v1/judges/{judge['id']}").json()["scored"] == 0


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"rubric": ""}, 400, "rubric"),
        ({"rubric": " "}, 400, "rubric"),
        ({"run": "run_none"}, 404, "run"),
        ({"model": "nobody"}, 404, "model"),
        ({"parameters": {"system": "x"}}, 400, "parameters.system"),
        ({"parameters": {"max_tokens": 0}}, 400, "parameters.max_tokens"),
    ],
)
def test_it_rejects_what_makes_no_sense(
    api: APIClient, run: Run, model: Model, change: dict[str, Any], status: int, param: str
) -> None:
    refused = post(api, "judges", wanted(run, **change))
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    assert not Judge.objects.exists()


def test_it_rejects_strangers_and_readers(owner: Tenant, stranger: APIClient, run: Run, model: Model) -> None:
    judge = post(owner.api, "judges", wanted(run)).json()["id"]
    assert stranger.get("/v1/judges").json()["data"] == []
    for path in (f"judges/{judge}", f"judges/{judge}/events"):
        assert stranger.get(f"/v1/{path}").status_code == 404
    assert post(stranger, f"judges/{judge}/cancel").status_code == 404
    assert post(stranger, "judges", wanted(run)).status_code == 404
    assert not JudgeTopic().authorize(Project.objects.exclude(pk=run.project_id).get(), judge)
    assert JudgeTopic().authorize(run.project, judge)
    _, secret = create_api_key(project=owner.project, name="reader", scopes=["datasets.read"])
    assert post(client(secret), "judges", wanted(run)).status_code == 403
    _, secret = create_api_key(project=owner.project, name="other models", allowed_models=["other-model"])
    assert post(client(secret), "judges", wanted(run)).status_code == 404
