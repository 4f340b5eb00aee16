"""Limits of keys, and what is counted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import ApiKey, Project
from apps.models import usage
from apps.models.gateway import asgi, callers
from apps.models.models import Model, Usage
from apps.models.usage import Account, Count
from tests.batches.lender import Lender
from tests.conftest import Tenant
from tests.models.gateway.cast import Asking, chat, eventually, in_database


def today() -> Any:
    return datetime.now(UTC).date()


def rows() -> list[tuple[Any, ...]]:
    fields = ("model_name", "requests", "failed", "input_tokens", "output_tokens")
    return list(Usage.objects.values_list(*fields))


async def test_it_works(asking: Asking, served: Model, owner: Tenant) -> None:
    """Requests of a second are one row: two that succeeded, of 11 tokens in, 5 out each, and one that did not."""
    for body in (chat("one two three"), chat("one two three", stream=True), chat("!400")):
        await asking.post(body)
    assert await eventually(lambda: rows() == [("test-model", 3, 1, 22, 10)])
    row = await in_database(Usage.objects.select_related("api_key").get)
    assert (row.day, row.project_id, row.api_key.name) == (today(), owner.project.pk, "test")


async def test_every_route_is_counted(asking: Asking, served: Model) -> None:
    for stream in (True, False):
        await asking.post({"model": "test-model", "prompt": "a b c", "stream": stream}, "/v1/completions")
        await asking.post({"model": "test-model", "input": "a b c", "stream": stream}, "/v1/responses")
    assert await eventually(lambda: rows() == [("test-model", 4, 0, 28, 20)])


async def test_a_stream_that_is_broken_off_is_counted_by_its_events(asking: Asking, served: Model) -> None:
    request = asking.start(chat("!pace:0.05 " + "word " * 200, stream=True))
    for _ in range(10):
        await request.message()
    request.hang_up()
    await request.task
    assert await eventually(lambda: bool(rows()))
    ((_, requests, failed, given, made),) = await in_database(rows)
    assert (requests, failed) == (1, 0)
    assert given > 200
    assert 9 <= made < 50


async def test_who_hangs_up_before_the_answer_pays_the_prompt(asking: Asking, served: Model, lender: Lender) -> None:
    request = asking.start(chat("!slow:30 " + "word " * 200))
    assert await eventually(lambda: len(lender.called()) == 1)
    request.hang_up()
    await request.task
    assert await eventually(lambda: bool(rows()))
    ((_, requests, failed, given, made),) = await in_database(rows)
    assert (requests, failed, made) == (1, 1, 0)
    assert given > 200


async def test_what_the_server_fails_at_costs_nothing(asking: Asking, served: Model, lender: Lender) -> None:
    request = asking.start(chat("!die"))
    assert await eventually(lambda: not lender.engine.alive())
    request.hang_up()
    await request.task
    assert await eventually(lambda: rows() == [("test-model", 1, 1, 0, 0)])


async def test_it_rejects_more_at_a_time_than_a_key_may(asking: Asking, served: Model, lender: Lender) -> None:
    await in_database(lambda: ApiKey.objects.update(max_concurrent=2))
    busy = [asking.start(chat("!slow:30 x")) for _ in range(2)]
    assert await eventually(lambda: len(lender.called()) == 2)
    answer = await asking.post(chat("y"))
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
    for request in busy:
        request.hang_up()
        await request.task
    assert (await asking.post(chat("y"))).status == 200


async def test_it_rejects_more_tokens_than_a_key_has(
    asking: Asking, served: Model, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at once, before and after they are in the rows."""
    monkeypatch.setattr(callers, "FRESH_SECONDS", 0.5)
    await in_database(lambda: ApiKey.objects.update(tokens_per_day=60))
    statuses = [(await asking.post(chat("one two three"))).status for _ in range(6)]
    assert statuses == [200, 200, 200, 200, 429, 429]  # 16 each: the fourth began with 12 left
    assert await eventually(lambda: rows() == [("test-model", 4, 0, 44, 20)])
    for _ in range(4):
        answer = await asking.post(chat("x"))
        assert (answer.status, answer.code) == (429, "insufficient_quota")
    assert 0 < int(answer.headers["retry-after"]) <= 24 * 3600 + 1
    assert answer.headers["x-should-retry"] == "false"
    assert len(lender.called()) == 4


async def test_what_other_processes_counted_is_in_the_budget(asking: Asking, served: Model, owner: Tenant) -> None:
    key = await in_database(ApiKey.objects.get)
    await in_database(lambda: ApiKey.objects.update(tokens_per_day=60))
    yesterday = Account(today() - timedelta(days=1), owner.project.pk, key.pk, "m")
    await in_database(usage.record, {yesterday: Count(1, 0, 1000, 0, 1000)})
    assert (await asking.post(chat("x"))).status == 200
    await asgi.close()
    await in_database(usage.record, {yesterday._replace(day=today()): Count(1, 0, 30, 0, 30)})
    assert (await asking.post(chat("x"))).status == 429


async def test_nothing_is_lost_while_the_rows_cannot_be_written(asking: Asking, served: Model) -> None:
    await in_database(_execute, "ALTER TABLE models_usage RENAME TO away")
    for _ in range(3):
        await asking.post(chat("one two three"))
    assert not await asgi.gateway()._shared.meter.flush()
    await asking.post(chat("one two three"))
    await in_database(_execute, "ALTER TABLE away RENAME TO models_usage")
    assert await eventually(lambda: rows() == [("test-model", 4, 0, 44, 20)])


async def test_what_is_counted_is_recorded_at_the_end(asking: Asking, served: Model) -> None:
    await asking.post(chat("one two three"))
    await asgi.close()
    assert await in_database(rows) == [("test-model", 1, 0, 11, 5)]


async def test_the_server_s_end_is_the_gateway_s(asking: Asking, served: Model) -> None:
    await asking.post(chat("one two three"))
    inbox, told = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        told.append(message["type"])

    await asgi.lifespan({"type": "lifespan"}, receive, send)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert len(await in_database(rows)) == 1


def test_rows_are_added_up(owner: Tenant) -> None:
    key = ApiKey.objects.get()
    account = Account(today(), owner.project.pk, key.pk, "m")
    for _ in range(2):
        usage.record({account: Count(2, 1, 10, 5, 20), account._replace(model="n"): Count(1, 0, 1, 1, 1)})
    assert set(rows()) == {("m", 4, 2, 20, 40), ("n", 2, 0, 2, 2)}
    assert usage.spent(key.pk, today()) == 64


def test_a_key_that_is_gone_leaves_its_usage_to_the_project(owner: Tenant) -> None:
    gone = [Account(today(), owner.project.pk, key_id, "m") for key_id in (900_001, 900_002)]
    nobody = Account(today(), 900_003, None, "m")
    for _ in range(2):
        usage.record({account: Count(1, 0, 1, 0, 1) for account in (*gone, nobody)})
    row = Usage.objects.get()
    assert (row.project, row.api_key, row.requests) == (Project.objects.get(), None, 4)


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
