"""/v1/exports."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project, Scope
from apps.accounts.services import create_api_key
from apps.datasets.models import Example, Export
from tests.conftest import client
from tests.datasets.exports import drive, make_split, starred_run

pytestmark = pytest.mark.django_db(transaction=True)


def post(api: APIClient, body: dict[str, Any], **headers: str) -> Any:
    return api.post("/v1/exports", body, format="json", headers=headers)


def test_it_works(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    split = make_split(run, ["train", "validation", "train"])
    wanted = {"dataset": run.dataset.uid, "run": run.uid, "format": "chat", "split": split.uid, "part": "train"}
    made = post(api, {**wanted, "filters": {"starred": "yes"}})
    assert made.status_code == 200, made.json()
    body = made.json()
    assert (body["object"], body["status"], body["answers"]) == ("export", "queued", "starred")
    assert (body["filters"], body["split"], body["part"]) == ({"starred": "yes"}, split.uid, "train")
    drive(Export.objects.get())
    done = api.get(f"/v1/exports/{body['id']}").json()
    assert (done["status"], done["rows"], done["manifest"]["counts"]["rows"]) == ("completed", 2, 2)
    content = api.get(f"/v1/files/{done['file_id']}/content")
    assert b"".join(content).count(b"\n") == 2
    assert api.get(f"/v1/files/{done['manifest_file_id']}").json()["filename"].endswith(".manifest.json")


def test_a_version_needs_no_run(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    Example.objects.update(reference="Expected.")
    assert post(api, {"dataset": run.dataset.uid, "format": "alpaca"}).json()["answers"] == "reference"


def test_it_lists_pages(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    ids = [post(api, {"dataset": run.dataset.uid, "run": run.uid, "format": "chat"}).json()["id"] for _ in range(3)]
    first = api.get("/v1/exports", {"limit": 2}).json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (ids[:0:-1], True)
    second = api.get("/v1/exports", {"limit": 2, "after": first["last_id"]}).json()
    assert [each["id"] for each in second["data"]] == [ids[0]]


def test_a_request_that_comes_twice_makes_one(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    body = {"dataset": run.dataset.uid, "run": run.uid, "format": "chat"}
    first, second = (post(api, body, **{"Idempotency-Key": "once"}).json() for _ in range(2))
    assert (first["id"], Export.objects.count()) == (second["id"], 1)


def test_it_can_be_cancelled(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    made = post(api, {"dataset": run.dataset.uid, "run": run.uid, "format": "chat"}).json()
    assert api.post(f"/v1/exports/{made['id']}/cancel").status_code == 200
    drive(Export.objects.get())
    assert api.post(f"/v1/exports/{made['id']}/cancel").json()["status"] == "cancelled"


def test_it_rejects_cancelling_what_is_done(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    made = post(api, {"dataset": run.dataset.uid, "run": run.uid, "format": "chat"}).json()
    drive(Export.objects.get())
    answer = api.post(f"/v1/exports/{made['id']}/cancel")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "Cannot cancel an export with status 'completed'."


def test_it_can_be_deleted_once_it_has_ended(api: APIClient, project: Project) -> None:
    run = starred_run(project)
    made = post(api, {"dataset": run.dataset.uid, "run": run.uid, "format": "chat"}).json()
    assert api.delete(f"/v1/exports/{made['id']}").status_code == 409
    file = drive(Export.objects.get()).file
    assert file
    assert api.delete(f"/v1/exports/{made['id']}").json() == {"id": made["id"], "object": "export", "deleted": True}
    assert api.get(f"/v1/files/{file.uid}").status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"format": "word"}, 400, "format"),
        ({"answers": "all"}, 400, "answers"),
        ({"filters": {"rating_min": "9"}}, 400, "rating_min"),
        ({"filters": {"stared": "yes"}}, 400, "stared"),
        ({"filters": {"show": {"a": 1}}}, 400, "filters.show"),
        ({"part": "train"}, 400, "split"),
        ({"repository": "a/b"}, 400, "format"),
        ({"format": "huggingface", "repository": "a/b"}, 400, "repository"),
        ({"dataset": "dset_none"}, 404, "dataset"),
        ({"dataset": "a\0b"}, 400, "dataset"),
        ({"run": "run_none"}, 404, "run"),
        ({"split": "split_none"}, 404, "split"),
    ],
)
def test_it_rejects(api: APIClient, project: Project, change: dict[str, Any], status: int, param: str) -> None:
    run = starred_run(project)
    answer = post(api, {"dataset": run.dataset.uid, "run": run.uid, "format": "chat", **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert not Export.objects.exists()


def test_it_rejects_strangers(api: APIClient, stranger: APIClient, project: Project) -> None:
    run = starred_run(project)
    body = {"dataset": run.dataset.uid, "run": run.uid, "format": "chat"}
    assert post(stranger, body).status_code == 404
    made = post(api, body).json()
    for answer in (
        stranger.get(f"/v1/exports/{made['id']}"),
        stranger.delete(f"/v1/exports/{made['id']}"),
        stranger.post(f"/v1/exports/{made['id']}/cancel"),
        stranger.get(f"/v1/exports/{made['id']}/events"),
    ):
        assert answer.status_code == 404
    assert stranger.get("/v1/exports").json()["data"] == []


def test_it_rejects_keys_without_the_scope(project: Project) -> None:
    run = starred_run(project)
    _, secret = create_api_key(project=project, name="reader", scopes=[Scope.DATASETS_READ])
    assert post(client(secret), {"dataset": run.dataset.uid, "format": "chat"}).status_code == 403
    assert client(secret).get("/v1/exports").status_code == 200
