"""/v1/runs: start, list, watch, cancel, ask again, add a model, delete."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project
from apps.accounts.services import create_api_key
from apps.batches.models import Batch
from apps.core.leases import Keeper
from apps.datasets.models import Answer, Dataset, Export, Item, Run, Split, Star, Version
from apps.datasets.runs import services as runs
from apps.datasets.runs.progress import RunTopic
from apps.models.models import Benchmark, Model
from tests.conftest import Tenant, client
from tests.datasets import batchwork
from tests.datasets.batchwork import completion, refusal, start
from tests.datasets.cast import make_reviewer, make_version
from tests.events.cast import member

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def version(project: Project) -> Version:
    return make_version(project)


def post(api: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    return api.post(f"/v1/{path}", body or {}, format="json", headers=headers)


def wanted(version: Version, /, **more: Any) -> dict[str, Any]:
    return {"dataset": version.dataset.uid, "models": ["test-model"]} | more


def test_it_works(api: APIClient, version: Version, model: Model, other: Model, keeper: Keeper) -> None:
    body = wanted(version, models=["test-model", "other-model"], parameters={"temperature": 0}, name="first")
    made = post(api, "runs", body)
    assert made.status_code == 200, made.json()
    run = made.json()
    assert run == run | {
        "object": "run", "dataset": version.dataset.uid, "version": 1, "split": None, "part": "", "name": "first",
        "parameters": {"temperature": 0}, "samples": 1, "items": 3, "status": "queued", "ended_at": None,
        "request_counts": {"total": 6, "completed": 0, "failed": 0},
    }  # fmt: skip
    batchwork.finish(keeper)
    shown = api.get(f"/v1/runs/{run['id']}").json()
    assert (shown["status"], shown["request_counts"]["completed"]) == ("completed", 6)
    column = shown["columns"][0]
    assert column == column | {"label": "test-model", "status": "completed", "answered": 3, "failed": 0, "total": 3}
    assert column["batches"] == [{"id": Batch.objects.order_by("pk")[0].uid, "status": "completed"}]
    assert shown["usage"]["output_tokens"] == 18
    assert shown["ended_at"] >= shown["in_progress_at"] >= shown["created_at"]
    listed = api.get("/v1/runs", {"dataset": version.dataset.uid}).json()
    assert [each["id"] for each in listed["data"]] == [run["id"]]
    assert api.get("/v1/runs", {"dataset": "dset_other"}).json()["data"] == []


def test_the_same_key_starts_one_run(api: APIClient, version: Version, model: Model) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (post(api, "runs", wanted(version), **headers) for _ in range(2))
    assert first.json() == second.json()
    assert Run.objects.count() == 1
    changed = post(api, "runs", wanted(version, samples=2), **headers)
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_a_page_costs_a_constant_number_of_queries(
    api: APIClient, version: Version, model: Model, django_assert_max_num_queries: Any
) -> None:
    for number in range(3):
        start(version, model, name=f"run {number}")
    with django_assert_max_num_queries(12):
        page = api.get("/v1/runs", {"limit": 2}).json()
    assert ([run["name"] for run in page["data"]], page["has_more"]) == (["run 2", "run 1"], True)
    rest = api.get("/v1/runs", {"after": page["last_id"]}).json()
    assert [run["name"] for run in rest["data"]] == ["run 0"]


def test_an_estimate_says_where_its_numbers_come_from(
    api: APIClient, version: Version, model: Model, settings: Any, keeper: Keeper
) -> None:
    settings.GPU_HOUR_COST = 3.6
    told = post(api, "runs/estimate", wanted(version, samples=2, parameters={"max_tokens": 100})).json()
    (each,) = told["models"]
    assert each["output_tokens"] == 600
    assert (each["seconds"], each["cost"], told["seconds"], told["cost"]) == (None, None, None, None)
    assert "max_tokens is 100" in each["output_from"]
    assert "measure the model" in each["seconds_from"]
    levels = [{"output_tokens_per_second": 10.0}, {"output_tokens_per_second": 60.0}]
    sweep = {"concurrencies": [1, 2], "prompt_tokens": 8, "output_tokens": 8, "requests_per_level": None}
    Benchmark.objects.create(model=model, status="completed", levels=levels, sweep=sweep)
    told = post(api, "runs/estimate", wanted(version, samples=2, parameters={"max_tokens": 100})).json()
    assert (told["seconds"], round(told["cost"], 4)) == (10.0, 0.01)
    assert Run.objects.count() == 0
    start(version, model)
    batchwork.finish(keeper)
    told = post(api, "runs/estimate", wanted(version)).json()
    assert (told["input_tokens"], told["output_tokens"]) == (15, 9)  # five and three for each, as they were measured
    assert "as in 'capitals v1, test-model'" in told["models"][0]["output_from"]


def test_it_starts_a_part_of_a_split(api: APIClient, version: Version, model: Model) -> None:
    split = Split.objects.create(version=version, name="halves", shares={"train": 100})
    refused = post(api, "runs", wanted(version, split=split.uid, part="test"))
    assert (refused.status_code, "no example" in refused.json()["error"]["message"]) == (400, True)
    unknown = post(api, "runs", wanted(version, split="split_none"))
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "split")


def test_cancelling_keeps_what_is_done(
    api: APIClient, version: Version, model: Model, other: Model, keeper: Keeper
) -> None:
    run = start(version, model)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting()[:1])
    runs.add_column(run=run, model=other)  # due, not sent
    cancelled = post(api, f"runs/{run.uid}/cancel").json()
    assert [column["status"] for column in cancelled["columns"]] == ["cancelling", "cancelled"]
    assert post(api, f"runs/{run.uid}/cancel").status_code == 200
    batchwork.finish(keeper)
    shown = api.get(f"/v1/runs/{run.uid}").json()
    assert (shown["status"], shown["request_counts"]) == ("cancelled", {"total": 6, "completed": 1, "failed": 2})
    again = post(api, f"runs/{run.uid}/rerun").json()
    assert again["status"] == "queued"
    batchwork.finish(keeper)
    shown = api.get(f"/v1/runs/{run.uid}").json()
    assert (shown["status"], shown["request_counts"]["completed"]) == ("completed", 6)
    refused = post(api, f"runs/{run.uid}/cancel")
    assert (refused.status_code, "nothing of it goes on" in refused.json()["error"]["message"]) == (409, True)


def test_only_what_is_missing_is_asked_again(
    api: APIClient, version: Version, model: Model, other: Model, keeper: Keeper
) -> None:
    run = start(version, model, other)
    failing = {"2"}
    batchwork.finish(
        keeper, lambda r: refusal() if r.custom_id in failing and '"other' in r.body else completion("fine")
    )
    assert post(api, f"runs/{run.uid}/rerun").status_code == 200
    batchwork.send(keeper)
    assert [(request.custom_id, request.batch.model_name) for request in batchwork.waiting()] == [("2", "other-model")]
    batchwork.finish(keeper)
    refused = post(api, f"runs/{run.uid}/rerun")
    assert (refused.status_code, "nothing is missing" in refused.json()["error"]["message"]) == (409, True)


def test_a_model_is_added_once(api: APIClient, version: Version, model: Model, other: Model, keeper: Keeper) -> None:
    run = start(version, model)
    batchwork.finish(keeper)
    added = post(api, f"runs/{run.uid}/columns", {"model": "other-model"}).json()
    assert [column["label"] for column in added["columns"]] == ["test-model", "other-model"]
    assert post(api, f"runs/{run.uid}/columns", {"model": "other-model"}).status_code == 409
    batchwork.finish(keeper)
    assert list(run.items.values_list("answered", "differs")) == [(2, True)] * 3


def test_deleting_takes_what_was_decided_with_it(
    api: APIClient, version: Version, model: Model, keeper: Keeper
) -> None:
    run, kept = start(version, model), start(version, model, name="kept")
    batchwork.finish(keeper)
    mia = make_reviewer(version.dataset.project)
    answer = Answer.objects.filter(column__run=run)[0]
    Answer.objects.create(column=answer.column, example=answer.example, text="edited", edit_of=answer, author=mia)
    Star.objects.create(example=answer.example, answer=answer, reviewer=mia, shared=True)
    Item.objects.filter(example=answer.example).update(starred=True)
    Export.objects.create(project=run.project, dataset=run.dataset, run=run, format="chat")
    deleted = api.delete(f"/v1/runs/{run.uid}")
    assert deleted.json() == {"id": run.uid, "object": "run", "deleted": True}
    assert (Star.objects.count(), Answer.objects.count(), Item.objects.filter(starred=True).count()) == (0, 3, 0)
    assert list(Run.objects.values_list("name", flat=True)) == [kept.name]
    assert Export.objects.get().run is None
    assert Dataset.objects.exists()


def test_it_rejects_what_the_key_may_not(owner: Tenant, version: Version, model: Model, keeper: Keeper) -> None:
    key, secret = create_api_key(project=owner.project, name="other models", allowed_models=["other-model"])
    for path, body in [("runs", wanted(version)), ("runs/estimate", wanted(version))]:
        refused = post(client(secret), path, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    run = start(version, model)
    batchwork.finish(keeper, lambda _: refusal())
    again = post(client(secret), f"runs/{run.uid}/rerun")
    assert (again.status_code, "test-model" in again.json()["error"]["message"]) == (400, True)
    assert ApiKey.objects.filter(pk=key.pk).exists()


def test_it_rejects_a_key_without_the_scope(owner: Tenant, version: Version, model: Model) -> None:
    _, secret = create_api_key(project=owner.project, name="reader", scopes=["datasets.read"])
    run = start(version, model)
    reader = client(secret)
    assert reader.get(f"/v1/runs/{run.uid}").status_code == 200
    assert post(reader, "runs", wanted(version)).status_code == 403
    for verb in ("cancel", "rerun", "columns"):
        assert post(reader, f"runs/{run.uid}/{verb}").status_code == 403
    assert reader.delete(f"/v1/runs/{run.uid}").status_code == 403


def test_it_rejects_a_stranger(stranger: APIClient, version: Version, model: Model) -> None:
    run = start(version, model)
    assert stranger.get("/v1/runs").json()["data"] == []
    assert stranger.get(f"/v1/runs/{run.uid}").status_code == 404
    assert stranger.get(f"/v1/runs/{run.uid}/events").status_code == 404
    assert stranger.delete(f"/v1/runs/{run.uid}").status_code == 404
    for verb in ("cancel", "rerun", "columns"):
        assert post(stranger, f"runs/{run.uid}/{verb}", {"model": "test-model"}).status_code == 404
    refused = post(stranger, "runs", wanted(version))
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "dataset")
    elsewhere = Project.objects.exclude(pk=run.project_id).get()
    assert not RunTopic().authorize(elsewhere, run.uid)
    assert RunTopic().authorize(run.project, run.uid)
    assert RunTopic().authorize(member(run.project), run.uid)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"models": []}, "models"),
        ({"models": ["test-model", "test-model"]}, "models"),
        ({"models": "test-model"}, "models"),
        ({"models": ["a\0b"]}, "models"),
        ({"samples": 9}, "samples"),
        ({"parameters": {"temperature": "hot"}}, "parameters.temperature"),
        ({"parameters": {"stop": "a\0b"}}, "parameters.stop"),
        ({"parameters": []}, "parameters"),
        ({"part": "train"}, "split"),
        ({"part": "holdout"}, "part"),
        ({"version": 0}, "version"),
        ({"name": "x" * 101}, "name"),
    ],
)
def test_it_rejects_what_makes_no_sense(
    api: APIClient, version: Version, model: Model, change: dict[str, Any], param: str
) -> None:
    refused = post(api, "runs", wanted(version, **change))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert not Run.objects.exists()


def test_it_rejects_a_version_that_is_not_there(api: APIClient, version: Version, model: Model) -> None:
    refused = post(api, "runs", wanted(version, version=7))
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "version")


def test_events_end_with_the_run(api: APIClient, key: str, version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    batchwork.finish(keeper)
    snapshot = RunTopic().snapshot(run.uid)
    assert snapshot is not None
    assert (snapshot["final"], snapshot["completed"], snapshot["total"]) == (True, 3, 3)
    answer = api.get(f"/v1/runs/{run.uid}/events")
    assert (answer.status_code, answer["content-type"]) == (200, "text/event-stream")
