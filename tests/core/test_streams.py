"""Streams and those who read them slowly: nobody else waits, and nobody is cut off."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from apps.accounts.models import Project
from apps.batches.models import Batch, Result
from apps.batches.output import FETCH, output_lines
from apps.core.db import connect
from apps.models.gateway import asgi
from apps.models.models import ExampleSet, Model, TriedPrompt
from tests.batches.cast import make_running
from tests.batches.lender import Lender
from tests.core.streams import SOON, Ask, Reader, asks, routes, slow_readers
from tests.models.gateway.cast import show_engine

pytestmark = pytest.mark.django_db(transaction=True)

NO_STREAMS = {  # pages, whatever their views say
    "admin/training/deployment/deploy/<str:checkpoint>/",
    "admin/training/trainingjob/stars/",
    "admin/training/trainingjob/stars/<int:pk>/",
}
LINES = 2_000
ANSWER = json.dumps({"choices": [{"message": {"content": "Paris. " * 80}}]})
IDLE = 0.5  # seconds that PostgreSQL lets a transaction wait for its client


@pytest.fixture
def every_stream(project: Project, key: str, model: Model, tmp_path: Path, settings: Any) -> Iterator[dict[str, Ask]]:
    settings.TRAINING_DIR, settings.MODELS_DIR = tmp_path / "training", tmp_path / "models"
    (tmp_path / "engine").mkdir()
    with Lender(tmp_path / "engine", FAKE_ENGINE_LATENCY="0.05") as lender:
        show_engine(model, lender)
        yield asks(project, key, model, tmp_path / "base")


@pytest.fixture
def admin(db: None) -> Client:
    browser = Client()
    browser.force_login(User.objects.create_superuser("admin"))
    return browser


@pytest.fixture
def batch(project: Project, model: Model) -> Batch:
    """It still runs; every third line has failed."""
    batch = make_running(project, model, lines=3)
    Result.objects.bulk_create(_result(batch, line) for line in range(2, 2 * LINES, 2))
    return batch


@pytest.fixture
def hasty_database(batch: Batch) -> Iterator[None]:
    """It ends what idles in a transaction for longer than IDLE."""
    options = connection.settings_dict["OPTIONS"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(options, "options", f"-c idle_in_transaction_session_timeout={int(IDLE * 1000)}ms")
        _begin_anew()
        yield
    _begin_anew()


def _begin_anew() -> None:
    connection.close()
    postgres: Any = connection  # the pool is PostgreSQL's alone
    postgres.close_pool()


def _result(batch: Batch, line: int) -> Result:
    failed = {"failed": True, "error_code": "engine_timeout", "error_message": "Too slow. " * 100}
    how = failed if line % 3 == 0 else {"failed": False, "status_code": 200, "body": ANSWER}
    return Result(batch=batch, line=line, custom_id=f"a{line}", **how)


def numbers(content: bytes) -> list[int]:
    return [int(json.loads(line)["custom_id"][1:]) for line in content.splitlines()]


async def test_more_slow_readers_than_connections_keep_nobody_waiting(every_stream: dict[str, Ask], key: str) -> None:
    """Of each route in turn."""
    assert set(every_stream) == set(routes()) - NO_STREAMS
    crowd = connection.settings_dict["OPTIONS"]["pool"]["max_size"] + 1
    page = every_stream["admin/batches/file/<int:pk>/download/"].headers
    others = [Ask("/v1/batches", {"authorization": f"Bearer {key}"}), Ask("/admin/batches/batch/", page)]
    blocked = []
    for route, ask in every_stream.items():
        try:
            async with slow_readers(ask, crowd) as readers, asyncio.timeout(SOON):
                assert {reader.status for reader in readers} == {200}, (route, readers[0].body)
                for other in map(Reader, others):
                    await other.all()
                    assert other.status == 200
        except TimeoutError:
            blocked.append(route)
    await asgi.close()
    assert not blocked


@pytest.mark.usefixtures("hasty_database")
async def test_a_slow_reader_gets_every_line(batch: Batch, key: str, admin: Client) -> None:
    """The bytes of the files that there will be, through the API and from the batch's page."""
    api, page = {"authorization": f"Bearer {key}"}, _cookie(admin)
    good, bad = [await database_sync_to_async(_file_of)(batch, failed) for failed in (False, True)]
    wanted = [
        (Ask(f"/v1/batches/{batch.uid}/output", api), good),
        (Ask(f"/v1/batches/{batch.uid}/output", api, query="failed=true"), bad),
        (Ask(f"/admin/batches/batch/{batch.pk}/download/output/", page), good),
        (Ask(f"/admin/batches/batch/{batch.pk}/download/errors/", page), bad),
    ]
    async with AsyncExitStack() as opened:
        readers = [(await opened.enter_async_context(slow_readers(ask, 2)), whole) for ask, whole in wanted]
        await asyncio.sleep(2 * IDLE)
        for pair, whole in readers:
            assert whole.count(b"\n") > FETCH
            assert [await reader.all() for reader in pair] == [whole] * 2


async def test_each_line_comes_once_and_in_order_while_the_batch_runs(batch: Batch, key: str) -> None:
    ask = Ask(f"/v1/batches/{batch.uid}/output", {"authorization": f"Bearer {key}"})
    new = [1, 2 * LINES - 3, 2 * LINES + 1, 2 * LINES + 3]  # none of them fails
    async with slow_readers(ask, 1) as (reader,):
        await database_sync_to_async(Result.objects.bulk_create)([_result(batch, line) for line in new])
        seen = numbers(await reader.all())
    old = [line for line in range(2, 2 * LINES, 2) if line % 3]
    assert seen == sorted([*old, *new[1:]])


async def test_a_slow_reader_gets_every_example(project: Project, admin: Client) -> None:
    kept = await database_sync_to_async(_examples)(project)
    page = Ask(f"/admin/models/exampleset/{kept.pk}/download/", _cookie(admin))
    async with slow_readers(page, 1) as (reader,):
        await database_sync_to_async(TriedPrompt.objects.filter(messages=["0"]).delete)()
        lines = [json.loads(line) for line in (await reader.all()).splitlines()]
    assert [(line["messages"][0], line["model"]) for line in lines] == [
        (str(number), model) for number in range(450) for model in ("one", "two")
    ]


def _file_of(batch: Batch, failed: bool) -> bytes:
    with connect(autocommit=False) as source:
        return b"".join(output_lines(source, batch, failed=failed))


def _examples(project: Project) -> ExampleSet:
    """More than a page of them, and more than a chunk."""
    kept = ExampleSet.objects.create(project=project, name="kept")
    answers = {"one": "x" * 1000, "two": "y"}
    TriedPrompt.objects.bulk_create(
        TriedPrompt(example_set=kept, messages=[str(number)], answers=answers) for number in range(450)
    )
    return kept


def _cookie(browser: Client) -> dict[str, str]:
    return {"cookie": f"sessionid={browser.cookies['sessionid'].value}"}
