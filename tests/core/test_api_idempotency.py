import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.models import IdempotencyKey


class Work:
    def __init__(self, fails: bool = False) -> None:
        self.runs = 0
        self.fails = fails

    def __call__(self) -> dict[str, Any]:
        self.runs += 1
        if self.fails:
            raise ApiError(503, "away")
        return {"run": self.runs}


def send(work: Any, key: str | None = "k", fingerprint: str = "content", owner: str = "proj_1") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    request = Request(APIRequestFactory().post("/v1/things", headers=headers))
    return once(request, owner=owner, fingerprint=fingerprint, run=work).data


@pytest.mark.django_db
def test_it_works() -> None:
    work = Work()
    assert send(work) == send(work) == {"run": 1}


@pytest.mark.django_db
def test_without_a_key_each_request_counts() -> None:
    work = Work()
    send(work, None)
    assert send(work, None) == {"run": 2}


@pytest.mark.django_db
def test_tenants_do_not_share_keys() -> None:
    work = Work()
    send(work)
    assert send(work, owner="proj_2") == {"run": 2}


@pytest.mark.django_db
def test_it_forgets_after_a_day() -> None:
    work = Work()
    send(work)
    IdempotencyKey.objects.update(created_at=F("created_at") - timedelta(hours=25))
    assert send(work) == {"run": 2}
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
def test_it_rejects_the_key_of_another_request() -> None:
    send(Work())
    with pytest.raises(ApiError) as caught:
        send(Work(), fingerprint="other content")
    assert caught.value.status_code == 409
    assert caught.value.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "é", "a\tb"])
@pytest.mark.django_db
def test_it_rejects_a_key_that_is_none(key: str) -> None:
    with pytest.raises(ApiError) as caught:
        send(Work(), key)
    assert caught.value.status_code == 400


@pytest.mark.django_db
def test_it_survives_a_first_try_that_failed() -> None:
    with pytest.raises(ApiError):
        send(Work(fails=True))
    assert send(Work()) == {"run": 1}


@pytest.mark.django_db(transaction=True)
def test_it_rejects_a_second_request_while_the_first_runs() -> None:
    started, go_on, answers = threading.Event(), threading.Event(), []

    def slow() -> dict[str, Any]:
        started.set()
        go_on.wait(10)
        return {"run": "slow"}

    def first() -> None:
        answers.append(send(slow))
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    started.wait(10)
    with pytest.raises(ApiError) as caught:
        send(Work())
    assert (caught.value.status_code, caught.value.code) == (409, "request_in_progress")
    go_on.set()
    thread.join()
    assert send(Work()) == answers[0] == {"run": "slow"}
