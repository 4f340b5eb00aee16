"""/v1/runs/…/items, /v1/answers, /v1/preferences, and a dataset's history."""

from dataclasses import fields
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from apps.accounts.models import Project, Scope
from apps.accounts.services import create_api_key
from apps.datasets.api.review_serializers import FilterQuery
from apps.datasets.models import Answer, Change, Dataset, Run, Star
from apps.datasets.reviews import locks
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.filters import Filters
from tests.conftest import client
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(make_version(project), {"small": ["Paris", "Lima", None], "large": ["Paris!", "Lima", "Accra"]})


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


@pytest.fixture
def api(project: Project, mia: User) -> APIClient:
    """With Mia's key."""
    return client(create_api_key(project=project, name="mia's", created_by=mia)[1])


def answer(run: Run, number: int, position: int) -> Answer:
    found = Answer.objects.select_related("example__dataset__project", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None)


def path(run: Run, number: int, position: int, verb: str) -> str:
    return f"/v1/answers/answer_{answer(run, number, position).pk}/{verb}"


def test_it_works(api: APIClient, run: Run) -> None:
    """A reviewer's way through one example, and back."""
    starred = api.post(path(run, 1, 0, "star")).json()
    name = f"answer_{answer(run, 1, 0).pk}"
    assert (starred["object"], starred["changed"]) == ("decision", True)
    assert starred["change"] | {"id": "", "at": 0} == {
        "id": "", "object": "dataset.change", "example": 1, "reviewer": "mia", "kind": "star",
        "target": {"reviewer": None}, "before": None, "after": {"answer": name, "reviewer": "mia"}, "at": 0,
        "undone_at": None,
    }  # fmt: skip
    assert api.post(path(run, 1, 0, "star")).json() == {"object": "decision", "changed": False, "change": None}
    assert api.post(path(run, 1, 0, "rating"), {"value": 4}, format="json").json()["change"]["after"] == 4
    assert api.post(path(run, 1, 1, "edit"), {"text": " Paris. "}, format="json").json()["changed"]
    body = {"left": f"answer_{answer(run, 1, 1).pk}", "right": name, "verdict": "left", "blind": True}
    assert api.post("/v1/preferences", body, format="json").json()["change"]["after"]["verdict"] == "right"
    body = {"tags": ["Easy"], "note": "Fine.", "state": "done"}
    item = api.patch(f"/v1/runs/{run.uid}/items/1", body, format="json").json()
    assert (item["tags"], item["note"], item["state"], item["reviews"]) == (["easy"], "Fine.", "done", 1)
    small, large = (cell["answers"][0] for cell in item["cells"])
    assert (small["id"], small["rating"], small["starred_by"]) == (name, 4, ["mia"])
    assert (large["edit"]["text"]["text"], large["edit"]["author"]) == (" Paris. ", "mia")
    assert item["preferences"][0]["verdict"] == "right"
    for _ in range(7):
        assert api.post(f"/v1/datasets/{run.dataset.uid}/undo").json()["changed"]
    assert not api.post(f"/v1/datasets/{run.dataset.uid}/undo").json()["changed"]
    item = api.get(f"/v1/runs/{run.uid}/items/1").json()
    assert (item["tags"], item["note"], item["state"], item["preferences"]) == ([], "", "open", [])
    assert [cell["answers"][0]["edit"] for cell in item["cells"]] == [None, None]


def test_items_come_in_pages(api: APIClient, run: Run) -> None:
    items = f"/v1/runs/{run.uid}/items"
    page = api.get(items, {"limit": "2", "diff": "true"}).json()
    assert ([item["number"] for item in page["data"]], page["has_more"], page["next_after"]) == ([1, 2], True, 2)
    assert [column["label"] for column in page["columns"]] == ["small", "large"]
    assert page["data"][0]["cells"][1]["answers"][0]["diff"] == [
        {"op": "equal", "text": "Paris"}, {"op": "insert", "text": "!"},
    ]  # fmt: skip
    assert page["data"][1]["cells"][1]["answers"][0]["same_as_baseline"]
    rest = api.get(items, {"limit": "2", "after": "2", "cells": "false"}).json()
    assert ([item["number"] for item in rest["data"]], rest["has_more"], rest["next_after"]) == ([3], False, None)
    assert rest["data"][0]["cells"] == []
    assert api.get(items, {"show": "differs"}).json()["data"][0]["number"] == 1
    assert api.get(items, {"text": "peru"}).json()["data"][0]["number"] == 2


def test_mine_is_the_keys_users(api: APIClient, run: Run) -> None:
    api.post(path(run, 2, 0, "star"))
    found = api.get(f"/v1/runs/{run.uid}/items", {"starred": "mine"}).json()
    assert [item["number"] for item in found["data"]] == [2]


def test_every_filter_is_in_the_schema() -> None:
    assert set(FilterQuery().fields) == {field.name for field in fields(Filters)}


def test_deleting_takes_away(api: APIClient, run: Run) -> None:
    api.post(path(run, 1, 0, "star"))
    assert not api.delete(path(run, 1, 1, "star")).json()["changed"]  # another answer has it
    assert api.delete(path(run, 1, 0, "star")).json()["changed"]
    assert not Star.objects.exists()
    api.post(path(run, 1, 0, "rating"), {"value": 4}, format="json")
    assert api.delete(path(run, 1, 0, "rating")).json()["change"]["after"] is None
    api.post(path(run, 1, 0, "edit"), {"text": "x"}, format="json")
    assert api.delete(path(run, 1, 0, "edit")).json()["change"]["before"] == "x"
    body = {"left": f"answer_{answer(run, 1, 0).pk}", "right": f"answer_{answer(run, 1, 1).pk}"}
    api.post("/v1/preferences", body | {"verdict": "tie"}, format="json")
    assert api.post("/v1/preferences", body | {"verdict": None}, format="json").json()["change"]["after"] is None


def test_history_comes_latest_first(api: APIClient, run: Run, mia: User, project: Project) -> None:
    ben = make_reviewer(project, "ben")
    reviews.star(answer=answer(run, 1, 0), reviewer=ben)
    for value in (1, 2, 3):
        reviews.rate(answer=answer(run, 2, 0), reviewer=mia, value=value)
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="é" * 100_000)
    changes = f"/v1/datasets/{run.dataset.uid}/changes"
    page = api.get(changes, {"limit": 3}).json()
    assert [change["kind"] for change in page["data"]] == ["edit", "rating", "rating"]
    assert page["data"][0]["after"] == "é" * 2_000
    rest = api.get(changes, {"limit": 3, "after": page["next_after"]}).json()
    assert [(change["kind"], change["reviewer"]) for change in rest["data"]] == [("rating", "mia"), ("star", "ben")]
    assert (rest["has_more"], rest["next_after"]) == (False, None)
    assert [change["kind"] for change in api.get(changes, {"example": 1}).json()["data"]] == ["edit", "star"]


def test_an_undo_is_sent_once(api: APIClient, run: Run, mia: User) -> None:
    for value in (1, 2):
        reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=value)
    undo = f"/v1/datasets/{run.dataset.uid}/undo"
    first, second = (api.post(undo, headers={"Idempotency-Key": "k"}).json() for _ in range(2))
    assert first == second
    assert Change.objects.exclude(undone_at=None).count() == 1
    body = {"change": Change.objects.earliest("pk").pk}
    assert api.post(undo, body, format="json").json()["changed"]


@pytest.mark.parametrize(
    ("method", "url", "body", "param"),
    [
        ("post", "/v1/answers/{answer}/rating", {"value": 6}, "value"),
        ("post", "/v1/answers/{answer}/rating", {}, "value"),
        ("post", "/v1/answers/{answer}/edit", {"text": ""}, "text"),
        ("post", "/v1/answers/{answer}/edit", {"text": "a\0b"}, "text"),
        ("post", "/v1/answers/{failed}/star", {}, "answer"),
        ("post", "/v1/preferences", {"left": "{answer}", "right": "{answer}", "verdict": "tie"}, "right"),
        ("post", "/v1/preferences", {"left": "{answer}", "right": "{failed}", "verdict": "tie"}, "right"),
        ("post", "/v1/preferences", {"left": "{answer}", "right": "{answer}", "verdict": "best"}, "verdict"),
        ("patch", "/v1/runs/{run}/items/1", {"tags": ["x" * 51]}, "tags"),
        ("patch", "/v1/runs/{run}/items/1", {"state": "lost"}, "state"),
        ("get", "/v1/runs/{run}/items?starred=perhaps", None, "starred"),
        ("get", "/v1/runs/{run}/items?rating_min=9", None, "rating_min"),
        ("get", "/v1/runs/{run}/items?column=7&column_is=failed", None, "column"),
        ("get", "/v1/runs/{run}/items?baseline=7", None, "baseline"),
        ("get", "/v1/runs/{run}/items?limit=101", None, "limit"),
        ("get", "/v1/runs/{run}/items?text=%00", None, "text"),
        ("get", "/v1/datasets/{dataset}/changes?after=x", None, "after"),
    ],
)
def test_it_rejects(api: APIClient, run: Run, method: str, url: str, body: Any, param: str) -> None:
    names = {
        "answer": f"answer_{answer(run, 1, 0).pk}", "failed": f"answer_{answer(run, 3, 0).pk}", "run": run.uid,
        "dataset": run.dataset.uid,
    }  # fmt: skip
    body = body and {key: value.format(**names) if isinstance(value, str) else value for key, value in body.items()}
    found = getattr(api, method)(url.format(**names), *([body] if body is not None else []), format="json")
    assert (found.status_code, found.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("name", ["answer_0", "answer_99999999", "answer_x", "4711", f"answer_{10**30}", "answer_٣"])
def test_it_rejects_answers_that_do_not_exist(api: APIClient, run: Run, name: str) -> None:
    assert api.post(f"/v1/answers/{name}/star").status_code == 404
    assert (
        api.post("/v1/preferences", {"left": name, "right": name, "verdict": "tie"}, format="json").status_code == 404
    )


def test_it_rejects_numbers_that_do_not_exist(api: APIClient, run: Run) -> None:
    for number in ("0", "4", "99999999999999999999", "9" * 5000):
        assert api.get(f"/v1/runs/{run.uid}/items/{number}").status_code == 404
        assert api.patch(f"/v1/runs/{run.uid}/items/{number}", {"note": "x"}, format="json").status_code == 404


def test_it_rejects_a_key_without_a_user(owner: Any, run: Run) -> None:
    refused = owner.api.post(path(run, 1, 0, "star"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_without_user")
    assert "make a key" in refused.json()["error"]["message"]
    assert owner.api.get(f"/v1/runs/{run.uid}/items").status_code == 200
    assert owner.api.get(f"/v1/runs/{run.uid}/items", {"starred": "mine"}).json()["error"]["param"] == "reviewer"


def test_it_rejects_what_somebody_else_holds(api: APIClient, run: Run, project: Project) -> None:
    locks.take(example=answer(run, 1, 0).example, reviewer=make_reviewer(project, "ben"))
    refused = api.post(path(run, 1, 0, "star"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "locked")
    refused = api.patch(f"/v1/runs/{run.uid}/items/1", {"note": "x"}, format="json")
    assert refused.status_code == 409


def test_a_patch_is_all_or_nothing(api: APIClient, run: Run) -> None:
    body = {"tags": ["fine"], "note": "x" * 10_001}
    assert api.patch(f"/v1/runs/{run.uid}/items/1", body, format="json").status_code == 400
    assert api.get(f"/v1/runs/{run.uid}/items/1").json()["tags"] == []


def test_a_stranger_finds_nothing(stranger: APIClient, run: Run, project: Project) -> None:
    for url in ("items", "items/1", "results", "assignments"):
        assert stranger.get(f"/v1/runs/{run.uid}/{url}").status_code == 404
    assert stranger.patch(f"/v1/runs/{run.uid}/items/1", {"note": "x"}, format="json").status_code in (403, 404)
    assert stranger.get(f"/v1/datasets/{run.dataset.uid}/changes").status_code == 404
    outsider = User.objects.create_user("outsider")
    other = Project.objects.create(name="elsewhere")
    theirs = client(create_api_key(project=other, name="k", created_by=outsider)[1])
    assert theirs.post(path(run, 1, 0, "star")).status_code == 404
    assert theirs.post(f"/v1/datasets/{run.dataset.uid}/undo").status_code == 404
    assert not Change.objects.exists()


def test_a_key_that_may_only_read(project: Project, mia: User, run: Run) -> None:
    reader = client(create_api_key(project=project, name="r", scopes=[Scope.DATASETS_READ], created_by=mia)[1])
    assert reader.get(f"/v1/runs/{run.uid}/items").status_code == 200
    assert reader.post(path(run, 1, 0, "star")).json()["error"]["code"] == "missing_scope"
    assert reader.patch(f"/v1/runs/{run.uid}/items/1", {}, format="json").json()["error"]["code"] == "missing_scope"


def test_results(api: APIClient, run: Run, mia: User) -> None:
    reviews.prefer(left=answer(run, 1, 0), right=answer(run, 1, 1), reviewer=mia, verdict="left", blind=True)
    reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=5)
    results = api.get(f"/v1/runs/{run.uid}/results", {"blind": "true"}).json()
    assert results["object"] == "run.results"
    assert (results["pairs"][0]["wins"], results["columns"][0]["first"]) == (1, 0)
    assert results["ratings"][0] == {"column": 0, "count": 1, "mean": 5.0, "distribution": [0, 0, 0, 0, 1]}
    assert [each["about"] for each in results["agreement"]] == ["ratings", "preferences", "thumbs"]


def test_assignments(api: APIClient, run: Run, project: Project) -> None:
    make_reviewer(project, "ben")
    body = {"reviewers": ["mia", "ben"], "filters": {"failed": "no"}}
    dealt = api.post(f"/v1/runs/{run.uid}/assignments", body, format="json").json()
    assert (dealt["object"], dealt["items"]) == ("run.assignments", 2)
    assert dealt["reviewers"][0] == {"reviewer": "ben", "assigned": 1, "done": 0, "rejected": 0}
    assert api.get(f"/v1/runs/{run.uid}/assignments").json()["reviewers"] == dealt["reviewers"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "reviewers"), ({"reviewers": ["nobody"]}, "reviewers"), ({"reviewers": ["vic"]}, "reviewers"),
        ({"reviewers": []}, "reviewers"), ({"reviewers": ["mia", "mia"]}, "reviewers"),
        ({"reviewers": ["mia"], "overlap": 2}, "overlap"),
        ({"reviewers": ["mia"], "filters": {"rating_min": 9}}, "rating_min"),
    ],
)  # fmt: skip
def test_it_rejects_assignments(api: APIClient, run: Run, project: Project, body: Any, param: str) -> None:
    make_reviewer(project, "vic", role=project.membership_set.model.Role.VIEWER)
    refused = api.post(f"/v1/runs/{run.uid}/assignments", body, format="json")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_star_of_ones_own(api: APIClient, run: Run, project: Project) -> None:
    Dataset.objects.update(star_policy=Dataset.StarPolicy.REVIEWER)
    run.dataset.refresh_from_db()
    reviews.star(answer=answer(run, 1, 0), reviewer=make_reviewer(project, "ben"))
    assert not api.delete(path(run, 1, 0, "star")).json()["changed"]
    assert api.post(path(run, 1, 0, "star")).json()["change"]["target"] == {"reviewer": "mia"}
