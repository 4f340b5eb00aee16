from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from apps.accounts.models import Project, Scope
from apps.accounts.services import create_api_key
from apps.datasets.models import Dataset, Example
from tests.conftest import client
from tests.datasets.cast import make_version
from tests.datasets.files import jsonl, upload

pytestmark = pytest.mark.django_db

URL = "/v1/datasets"


def post(api: APIClient, path: str, body: Any = None, **headers: Any) -> Any:
    return api.post(f"{URL}{path}", body or {}, format="json", **headers)


def test_it_works(api: APIClient) -> None:
    made = post(api, "", {"name": "capitals", "description": "Cities", "overlap": 2})
    assert made.status_code == 200
    body = made.json()
    assert body["id"].startswith("dset_")
    assert body == {
        "id": body["id"], "object": "dataset", "name": "capitals", "description": "Cities", "star_policy": "shared",
        "overlap": 2, "version": None, "examples": 0, "created_at": body["created_at"],
    }  # fmt: skip
    path = f"{URL}/{body['id']}"
    assert api.get(path).json() == body
    assert post(api, f"/{body['id']}", {"name": "towns"}).json() == {**body, "name": "towns"}
    assert api.get(URL).json()["data"] == [{**body, "name": "towns"}]
    assert api.delete(path).json() == {"id": body["id"], "object": "dataset", "deleted": True}
    assert api.get(path).status_code == 404


def test_versions_and_examples_are_listed(api: APIClient, project: Project) -> None:
    version = make_version(project)
    Example.objects.filter(number=2).update(tags=["andes"])
    path = f"/{version.dataset.uid}"
    assert api.get(f"{URL}{path}").json()["examples"] == 3
    removed = post(api, f"{path}/examples/remove", {"examples": [1], "note": "too easy"}).json()
    assert (removed["version"], removed["examples"], removed["note"]) == (2, 2, "too easy")
    assert [row["version"] for row in api.get(f"{URL}{path}/versions").json()["data"]] == [2, 1]
    assert [row["version"] for row in api.get(f"{URL}{path}/versions?after=2").json()["data"]] == [1]
    listed = api.get(f"{URL}{path}/examples").json()
    asked = [{"role": "user", "content": "Capital of Peru?"}]
    assert [row["number"] for row in listed["data"]] == [2, 3]
    assert listed["data"][0] == {
        "object": "dataset.example", "number": 2, "key": "", "prompt": "Capital of Peru?", "reference": "",
        "messages": asked, "rejected": "", "tags": ["andes"], "row": {"messages": asked},
    }  # fmt: skip
    assert [row["number"] for row in api.get(f"{URL}{path}/examples?version=1").json()["data"]] == [1, 2, 3]
    assert [row["number"] for row in api.get(f"{URL}{path}/examples?tag=Andes").json()["data"]] == [2]
    assert [row["number"] for row in api.get(f"{URL}{path}/examples?search=ghana").json()["data"]] == [3]


def test_examples_come_in_pages(api: APIClient, project: Project) -> None:
    path = f"{URL}/{make_version(project).dataset.uid}/examples"
    first = api.get(f"{path}?limit=2").json()
    assert (first["has_more"], first["last_id"]) == (True, "2")
    second = api.get(f"{path}?limit=2&after=2").json()
    assert ([row["number"] for row in second["data"]], second["has_more"]) == ([3], False)
    assert [row["number"] for row in api.get(f"{path}?order=desc&after=3").json()["data"]] == [2, 1]


def test_a_page_costs_the_same_whatever_its_length(
    api: APIClient, project: Project, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    path = f"{URL}/{make_version(project, [f'Question {n}' for n in range(120)]).dataset.uid}/examples?limit=100"
    for number in range(20):
        Dataset.objects.create(project=project, name=f"other {number}")
    api.get(URL)
    with django_assert_max_num_queries(8):
        assert len(api.get(path).json()["data"]) == 100
    with django_assert_max_num_queries(3):
        assert len(api.get(URL).json()["data"]) == 20


def test_splits_are_made_and_listed(api: APIClient, project: Project) -> None:
    path = f"/{make_version(project).dataset.uid}/splits"
    made = post(api, path, {"name": "s", "shares": {"train": 60, "test": 40}, "seed": 3}).json()
    assert made["id"].startswith("split_")
    assert (made["object"], made["version"], made["seed"]) == ("dataset.split", 1, 3)
    assert sum(made["counts"].values()) == 3
    assert api.get(f"{URL}{path}").json()["data"] == [made]
    assert post(api, path, {"name": "s"}).status_code == 409


def test_the_same_request_twice_makes_one(api: APIClient) -> None:
    first, second = (post(api, "", {"name": "capitals"}, HTTP_IDEMPOTENCY_KEY="k").json() for _ in range(2))
    assert first == second
    assert Dataset.objects.count() == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("", {}, 400, "name"),
        ("", {"name": "x" * 101}, 400, "name"),
        ("", {"name": "a\0b"}, 400, "name"),
        ("", {"name": "a\u2028b"}, 400, "name"),
        ("", {"name": "a", "star_policy": "many"}, 400, "star_policy"),
        ("", {"name": "a", "overlap": 0}, 400, "overlap"),
        ("", {"name": "capitals"}, 409, "name"),
        ("/{id}", {"name": ""}, 400, "name"),
        ("/{id}", {"overlap": 99}, 400, "overlap"),
        ("/{id}/examples/remove", {}, 400, "examples"),
        ("/{id}/examples/remove", {"examples": []}, 400, "examples"),
        ("/{id}/examples/remove", {"examples": ["x"]}, 400, "examples.0"),
        ("/{id}/examples/remove", {"examples": [2**40]}, 400, "examples.0"),
        ("/{id}/examples/remove", {"examples": [99]}, 400, "examples"),
        ("/{id}/splits", {"name": "s", "shares": {"train": 50}}, 400, "shares"),
        ("/{id}/splits", {"name": "s", "shares": {"dev": 100}}, 400, "shares"),
        ("/{id}/splits", {"name": "s", "seed": 2**70}, 400, "seed"),
        ("/{id}/splits", {"name": "s", "version": 9}, 404, "version"),
        ("/dset_nobody/splits", {"name": "s"}, 404, "id"),
    ],
)
def test_it_rejects(api: APIClient, project: Project, path: str, body: Any, status: int, param: str) -> None:
    version = make_version(project)
    answer = post(api, path.format(id=version.dataset.uid), body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    ("query", "status"),
    [("version=99", 404), ("version=x", 400), ("limit=0", 400), ("after=-1", 400), ("order=up", 400),
     ("search=%00", 400), ("search=" + "x" * 501, 400), ("tag=%00", 400), ("search='%20%26%20!", 200)],
)  # fmt: skip
def test_it_rejects_a_query(api: APIClient, project: Project, query: str, status: int) -> None:
    path = f"{URL}/{make_version(project).dataset.uid}/examples"
    assert api.get(f"{path}?{query}").status_code == status


def test_a_dataset_without_a_version_has_no_examples(api: APIClient, project: Project) -> None:
    dataset = Dataset.objects.create(project=project, name="empty")
    answer = api.get(f"{URL}/{dataset.uid}/examples")
    assert (answer.status_code, "import a file first" in answer.json()["error"]["message"]) == (409, True)
    assert api.get(f"{URL}/{dataset.uid}/versions").json()["data"] == []


def test_to_a_stranger_it_does_not_exist(stranger: APIClient, project: Project) -> None:
    path = f"{URL}/{make_version(project).dataset.uid}"
    assert stranger.get(URL).json()["data"] == []
    for answer in (
        stranger.get(path), stranger.delete(path), stranger.get(f"{path}/versions"), stranger.get(f"{path}/examples"),
        stranger.get(f"{path}/splits"), stranger.get(f"{path}/imports"), stranger.get(f"{path}/duplicates"),
        stranger.post(path, {"name": "mine"}, format="json"),
        stranger.post(f"{path}/splits", {"name": "s"}, format="json"),
        stranger.post(f"{path}/examples/remove", {"examples": [1]}, format="json"),
    ):  # fmt: skip
        assert answer.status_code == 404
    assert Dataset.objects.count() == 1


def test_a_key_that_may_only_read_changes_nothing(project: Project) -> None:
    _, secret = create_api_key(project=project, name="reader", scopes=[Scope.DATASETS_READ])
    reader, path = client(secret), f"/{make_version(project).dataset.uid}"
    assert reader.get(f"{URL}{path}").status_code == 200
    assert reader.delete(f"{URL}{path}").status_code == 403
    for route in ("", path, f"{path}/splits", f"{path}/imports", f"{path}/examples/remove", f"{path}/duplicates"):
        assert post(reader, route).status_code == 403


def test_a_preview_needs_no_right_to_write(project: Project) -> None:
    _, secret = create_api_key(project=project, name="reader", scopes=[Scope.DATASETS_READ])
    file = upload(project, jsonl([{"prompt": "Hi", "completion": "Ho"}]))
    path = f"/{make_version(project).dataset.uid}/imports/preview"
    assert post(client(secret), path, {"file_id": file.uid}).status_code == 200
