"""/v1/models/benchmarks."""

from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key, create_project
from apps.core import leases
from apps.models.models import Benchmark, Model

pytestmark = pytest.mark.django_db
PATH = "/v1/models/benchmarks"


def client(project: Project, **key: Any) -> APIClient:
    made = APIClient()
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {create_api_key(project=project, name='k', **key)[1]}")
    return made


@pytest.fixture
def owner(model: Model) -> APIClient:
    model.project = create_project(name="Owner")
    model.save()
    return client(model.project)


def test_it_works(owner: APIClient, model: Model) -> None:
    made = owner.post(PATH, {"model": model.name, "concurrencies": [2, 1]}, format="json")
    assert made.status_code == 200
    body = made.json()
    assert (body["object"], body["status"], body["model"], body["levels"]) == ("benchmark", "queued", model.name, [])
    assert body["sweep"]["concurrencies"] == [1, 2]
    assert owner.get(f"{PATH}/{body['id']}").json() == body
    assert owner.get(PATH, {"model": model.name}).json()["data"] == [body]
    assert owner.get(PATH, {"model": "another"}).json()["data"] == []
    assert owner.post(f"{PATH}/{body['id']}/cancel").json()["status"] == "cancelled"
    again = owner.post(f"{PATH}/{body['id']}/cancel")
    assert (again.status_code, again.json()["error"]["message"]) == (
        409,
        "Cannot cancel a benchmark with status 'cancelled'.",
    )


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "model"),
        ({"model": "nobody"}, 404, "model"),
        ({"concurrencies": [0]}, 400, "concurrencies"),
        ({"concurrencies": "x"}, 400, "concurrencies"),
        ({"prompt_tokens": 10**9}, 400, "prompt_tokens"),
    ],
)
def test_it_rejects(owner: APIClient, model: Model, body: dict[str, Any], status: int, param: str) -> None:
    asked = {"model": model.name, **body} if body else {}
    answer = owner.post(PATH, asked, format="json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert not Benchmark.objects.exists()


def test_the_same_idempotency_key_measures_once(owner: APIClient, model: Model) -> None:
    answers = [
        owner.post(PATH, {"model": model.name}, format="json", headers={"Idempotency-Key": "once"}).json()["id"]
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert Benchmark.objects.count() == 1


def test_a_stranger_sees_nothing(owner: APIClient, model: Model) -> None:
    uid = owner.post(PATH, {"model": model.name}, format="json").json()["id"]
    stranger = client(create_project(name="Stranger"))
    assert stranger.get(PATH).json()["data"] == []
    assert stranger.get(f"{PATH}/{uid}").status_code == 404
    assert stranger.post(f"{PATH}/{uid}/cancel").status_code == 404
    assert stranger.post(PATH, {"model": model.name}, format="json").status_code == 404


def test_a_stranger_sees_how_everybodys_model_was_measured_and_cancels_nothing(owner: APIClient, model: Model) -> None:
    uid = owner.post(PATH, {"model": model.name}, format="json").json()["id"]
    Model.objects.update(project=None)
    stranger = client(create_project(name="Stranger"))
    assert stranger.get(f"{PATH}/{uid}").json()["id"] == uid
    assert stranger.post(f"{PATH}/{uid}/cancel").status_code == 404
    assert Benchmark.objects.get().status == Benchmark.Status.QUEUED
    assert owner.post(f"{PATH}/{uid}/cancel").status_code == 200


def test_cancelling_what_is_being_cancelled_changes_nothing(owner: APIClient, model: Model) -> None:
    uid = owner.post(PATH, {"model": model.name}, format="json").json()["id"]
    Benchmark.objects.update(status=Benchmark.Status.RUNNING)
    with connection.cursor() as cursor:
        assert leases.claim(cursor, f"benchmark:{Benchmark.objects.get().pk}", "a worker")
    answers = [owner.post(f"{PATH}/{uid}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


def test_a_key_sees_the_models_that_it_may_use(owner: APIClient, model: Model) -> None:
    uid = owner.post(PATH, {"model": model.name}, format="json").json()["id"]
    assert model.project
    narrow = client(model.project, allowed_models=["another"])
    assert narrow.get(f"{PATH}/{uid}").status_code == 404
    assert narrow.post(f"{PATH}/{uid}/cancel").status_code == 404
    assert narrow.post(PATH, {"model": model.name}, format="json").status_code == 404
