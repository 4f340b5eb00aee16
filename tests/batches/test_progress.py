"""A batch's progress: the topic behind the socket, and the same as server-sent events."""

import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest
from channels.db import database_sync_to_async
from django.db import connection
from django.http import StreamingHttpResponse
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project
from apps.accounts.services import create_api_key, revoke_api_key
from apps.batches.models import Batch
from apps.batches.progress import BatchTopic
from apps.events import sse
from apps.events.hints import ahint
from tests.conftest import Tenant
from tests.events.cast import answer, complete, member, running_batch
from tests.stack.live import REPOSITORY, free_ports

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def batch(project: Project) -> Batch:
    return running_batch(project)


def test_it_works(batch: Batch) -> None:
    answer(batch, completed=4, failed=1)
    with CaptureQueriesContext(connection) as queries:
        snapshot = BatchTopic().snapshot(batch.uid)
    assert len(queries) == 2
    assert snapshot is not None
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot == snapshot | {
        "id": batch.uid, "object": "batch.progress", "status": "in_progress", "paused": False, "final": False,
        "total": 10, "completed": 4, "failed": 1, "input_tokens": 20, "output_tokens": 40, "ended_at": None,
    }  # fmt: skip


@pytest.mark.parametrize("status", Batch.Status)
def test_it_is_final_when_the_batch_is(batch: Batch, status: str) -> None:
    Batch.objects.update(status=status)
    snapshot = BatchTopic().snapshot(batch.uid)
    assert snapshot is not None
    assert snapshot["final"] is (status in ("completed", "failed", "expired", "cancelled"))


def test_it_says_that_a_batch_is_paused(batch: Batch) -> None:
    Batch.objects.update(paused_at=batch.created_at)
    snapshot = BatchTopic().snapshot(batch.uid)
    assert snapshot is not None
    assert snapshot["paused"]
    assert "Paused" in snapshot["status_label"]


def test_it_is_shown_to_its_project_alone(batch: Batch, project: Project) -> None:
    elsewhere = Project.objects.create(name="elsewhere")
    may = BatchTopic().authorize
    assert may(project, batch.uid)
    assert may(member(project, "mia"), batch.uid)
    assert not may(elsewhere, batch.uid)
    assert not may(member(elsewhere, "olga"), batch.uid)
    assert not may(project, "batch_unknown")


def test_it_has_nothing_to_say_of_what_is_gone() -> None:
    assert BatchTopic().snapshot("batch_unknown") is None


class Stream:
    """The parsed events of an answer; comments have no name."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    async def next(self) -> tuple[str, dict[str, Any]]:
        block = (await asyncio.wait_for(anext(self._parts), 5)).decode()
        assert block.endswith("\n\n")
        if block.startswith(":"):
            return "", {}
        name, data = block.removesuffix("\n\n").split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    async def names(self) -> AsyncIterator[str]:
        """Those of all that follow, to the end."""
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield (await self.next())[0]


@contextlib.asynccontextmanager
async def stream(batch: Batch, key: str) -> AsyncIterator[Stream]:
    response = await AsyncClient().get(
        f"/v1/batches/{batch.uid}/events",
        headers={"authorization": f"Bearer {key}", "accept": "text/event-stream"},
    )
    assert (response.status_code, response["content-type"]) == (200, "text/event-stream")
    assert (response["cache-control"], response["x-accel-buffering"]) == ("no-cache", "no")
    parts = cast(AsyncGenerator[bytes], aiter(cast(StreamingHttpResponse, response)))
    yield Stream(parts)
    await parts.aclose()


async def test_it_streams(batch: Batch, key: str) -> None:
    async with stream(batch, key) as told:
        name, first = await told.next()
        assert (name, first["id"], first["completed"]) == ("progress", batch.uid, 0)
        await database_sync_to_async(answer)(batch, completed=7)
        await ahint("batch", batch.uid)
        assert (await told.next())[1]["completed"] == 7
        await database_sync_to_async(complete)(batch)
        await ahint("batch", batch.uid)
        name, last = await told.next()
        assert (name, last["status"]) == ("progress", "completed")
        assert await told.next() == ("done", last)
        with pytest.raises(StopAsyncIteration):
            await told.next()


async def test_it_streams_the_end_of_what_has_ended(batch: Batch, key: str) -> None:
    await database_sync_to_async(complete)(batch)
    async with stream(batch, key) as told:
        assert [(await told.next())[0], (await told.next())[0]] == ["progress", "done"]


async def test_it_keeps_a_quiet_stream_open(batch: Batch, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE", 0.1)
    await database_sync_to_async(Batch.objects.update)(in_progress_at=None)
    async with stream(batch, key) as told:
        assert [(await told.next())[0] for _ in range(3)] == ["progress", "", ""]


async def test_it_ends_when_the_key_is_revoked(batch: Batch, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(sse, "RECHECK", 0.3)
    async with stream(batch, key) as told:
        await told.next()
        await asyncio.sleep(0.4)
        await told.next()  # still good
        await database_sync_to_async(lambda: revoke_api_key(key=ApiKey.objects.get()))()
        assert "done" not in [name async for name in told.names()]


def test_it_rejects_a_stranger(batch: Batch, stranger: APIClient) -> None:
    refused = stranger.get(f"/v1/batches/{batch.uid}/events")
    unknown = stranger.get("/v1/batches/batch_unknown/events")
    assert (refused.status_code, unknown.status_code) == (404, 404)
    assert refused.json()["error"]["code"] == unknown.json()["error"]["code"]


def test_it_rejects_a_key_without_the_scope(batch: Batch, owner: Tenant) -> None:
    _, secret = create_api_key(project=owner.project, name="files only", scopes=["files.read"])
    refused = APIClient().get(f"/v1/batches/{batch.uid}/events", headers={"authorization": f"Bearer {secret}"})
    assert refused.status_code == 403


async def test_it_keeps_no_connection_from_the_pool(batch: Batch, key: str) -> None:
    """More streams than the pool has connections, all open at once."""
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(20):
            told = await opened.enter_async_context(stream(batch, key))
            assert (await told.next())[0] == "progress"
        assert await database_sync_to_async(Batch.objects.count)() == 1


def test_it_does_not_keep_the_server_from_stopping(batch: Batch, key: str, process_env: dict[str, str]) -> None:
    (port,) = free_ports(1)
    env = process_env | {"API_PORT": str(port), "WEB_PORT": str(port), "BIND_ADDRESS": "127.0.0.1"}
    server = subprocess.Popen([sys.executable, "-m", "batchserver.web"], cwd=REPOSITORY, env=env)
    try:
        answer = _open_stream(port, batch.uid, key)
        assert answer.readline() == b"event: progress\n"
        server.send_signal(signal.SIGTERM)
        server.wait(10)
    finally:
        server.kill()
        server.wait()


def _open_stream(port: int, uid: str, key: str) -> http.client.HTTPResponse:
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", f"/v1/batches/{uid}/events", headers={"Authorization": f"Bearer {key}"})
            return connection.getresponse()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
