"""What stock clients send again by themselves happens once."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.models import F
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from apps.core.api.errors import ApiError
from apps.core.api.parsers import FormParser
from apps.core.api.repeats import answer_once
from apps.core.models import IdempotencyKey
from apps.core.purge import purge_answers


class Work:
    def __init__(self, fails: bool = False) -> None:
        self.runs, self.fails = 0, fails

    def __call__(self) -> Response:
        self.runs += 1
        if self.fails:
            raise ApiError(503, "away")
        return Response({"run": self.runs}, status=201)


def send(
    work: Any, count: str | None, body: Any = None, *, owner: str = "key 1", path: str = "/v1/things", **headers: str
) -> Any:
    if count is not None:
        headers["X-Stainless-Retry-Count"] = count
    form = isinstance(body, dict) and any(isinstance(value, SimpleUploadedFile) for value in body.values())
    made = APIRequestFactory().post(path, body, format="multipart" if form else "json", headers=headers)
    request = Request(made, parsers=[FormParser() if form else JSONParser()])
    response = answer_once(request, owner=owner, run=work)
    return response.status_code, response.data


@pytest.mark.django_db
def test_it_works() -> None:
    work = Work()
    first = send(work, "0", {"a": 1, "b": 2})
    assert [send(work, count, {"b": 2, "a": 1}) for count in "12"] == [first, first] == [(201, {"run": 1})] * 2


@pytest.mark.django_db
def test_two_first_tries_are_two_requests() -> None:
    work = Work()
    assert [send(work, count)[1]["run"] for count in "00"] == [1, 2]
    assert send(work, "1")[1]["run"] == 2
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
def test_a_try_whose_first_never_came_runs_once() -> None:
    work = Work()
    assert [send(work, count)[1]["run"] for count in "12"] == [1, 1]


@pytest.mark.django_db
@pytest.mark.parametrize("count", [None, "", "x", "-1", "1.0", "²"])
def test_other_clients_are_left_alone(count: str | None) -> None:
    work = Work()
    send(work, count)
    assert send(work, count)[1]["run"] == 2
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db
def test_an_idempotency_key_says_more() -> None:
    work = Work()
    for count in "01":
        send(work, count, **{"Idempotency-Key": "k"})
    assert work.runs == 2  # the view's own `once` decides


@pytest.mark.django_db
@pytest.mark.parametrize("other", [{"owner": "key 2"}, {"path": "/v1/others"}, {"path": "/v1/things?x=1"}])
def test_another_request_is_another(other: dict[str, str]) -> None:
    work = Work()
    send(work, "0", {"a": 1})
    assert send(work, "1", {"a": 1}, **other)[1]["run"] == 2
    assert send(work, "1", {"a": 2})[1]["run"] == 3


@pytest.mark.django_db
def test_files_are_told_apart_by_their_bytes() -> None:
    work = Work()

    def upload(count: str, content: bytes, name: str = "a") -> Any:
        return send(work, count, {"file": SimpleUploadedFile(name, content), "purpose": "batch"})[1]["run"]

    assert upload("0", b"one") == upload("1", b"one") == 1  # each with a boundary of its own
    assert upload("1", b"two") == 2
    assert upload("1", b"one", "b") == 3


@pytest.mark.django_db
def test_it_survives_a_first_try_that_failed() -> None:
    with pytest.raises(ApiError):
        send(Work(fails=True), "0")
    assert send(Work(), "1")[1] == {"run": 1}


@pytest.mark.django_db
def test_it_forgets_after_minutes() -> None:
    work = Work()
    send(work, "0")
    IdempotencyKey.objects.update(created_at=F("created_at") - timedelta(minutes=16))
    assert send(work, "1")[1]["run"] == 2
    assert send(work, "2")[1]["run"] == 2


@pytest.mark.django_db
def test_old_answers_are_deleted() -> None:
    keeper: Any = None  # nothing is leased
    for body in range(3):
        send(Work(), "0", {"n": body})
    IdempotencyKey.objects.create(scope="proj_1 POST /v1/things", key="k", fingerprint="f")
    assert not purge_answers(keeper)
    assert IdempotencyKey.objects.count() == 4
    IdempotencyKey.objects.update(created_at=F("created_at") - timedelta(minutes=20))
    purge_answers(keeper)
    assert IdempotencyKey.objects.count() == 1  # a key is kept for a day
    IdempotencyKey.objects.update(created_at=F("created_at") - timedelta(hours=24))
    purge_answers(keeper)
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_try_waits_for_its_first() -> None:
    started, go_on, answers = threading.Event(), threading.Event(), []

    def slow() -> Response:
        started.set()
        go_on.wait(10)
        return Response({"run": "slow"})

    def first() -> None:
        answers.append(send(slow, "0"))
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    started.wait(10)
    with pytest.raises(ApiError) as caught:
        send(Work(), "1")
    assert (caught.value.status_code, caught.value.headers) == (409, {"Retry-After": "2"})
    go_on.set()
    thread.join()
    assert send(Work(), "2") == answers[0] == (200, {"run": "slow"})
