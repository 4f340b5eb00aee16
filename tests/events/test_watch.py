import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import override_settings

from apps.accounts.models import Project
from apps.events import progress
from apps.events.hints import INTERVAL, ahint
from apps.events.sse import _event
from tests.events.test_hint import UNREACHABLE


class Counter:
    """A topic without a database: what it counts is set by the test."""

    def __init__(self) -> None:
        self.completed, self.final, self.gone = 0, False, False
        self.reads: list[float] = []
        self.trouble: Exception | None = None

    def authorize(self, who: User | Project, uid: str) -> bool:
        return True

    def snapshot(self, uid: str) -> progress.Snapshot | None:
        self.reads.append(time.monotonic())
        if self.trouble:
            raise self.trouble
        if self.gone:
            return None
        return {
            "id": uid, "total": 10, "completed": self.completed, "failed": 0, "output_tokens": 0,
            "in_progress_at": None, "ended_at": None, "paused": False, "final": self.final,
        }  # fmt: skip


@pytest.fixture
def counter(servers: None) -> Iterator[Counter]:
    counter = Counter()
    progress.register("counter", counter)
    yield counter
    del progress._topics["counter"]
    assert not progress._feeds  # whoever left has cleaned up


async def next_of(snapshots: AsyncGenerator[progress.Snapshot], seconds: float = 3) -> dict[str, Any]:
    return await asyncio.wait_for(anext(snapshots), seconds)


async def test_it_works(counter: Counter) -> None:
    async with aclosing(progress.watch("counter", "c1")) as snapshots:
        first = await next_of(snapshots)
        assert (first["completed"], first["tokens_per_second"], first["eta_seconds"]) == (0, 0.0, None)
        counter.completed = 3
        await ahint("counter", "c1")
        assert (await next_of(snapshots))["completed"] == 3
        counter.completed, counter.final = 10, True
        await ahint("counter", "c1")
        assert (await next_of(snapshots))["final"]
        with pytest.raises(StopAsyncIteration):
            await next_of(snapshots)


async def test_it_shows_what_is_final_and_ends(counter: Counter) -> None:
    counter.final = True
    assert [snapshot["final"] async for snapshot in progress.watch("counter", "c1")] == [True]


async def test_it_ends_when_the_object_is_gone(counter: Counter) -> None:
    counter.gone = True
    assert [snapshot async for snapshot in progress.watch("counter", "c1")] == []


async def test_it_looks_at_most_four_times_a_second(counter: Counter) -> None:
    async with aclosing(progress.watch("counter", "c1")) as snapshots:
        await next_of(snapshots)
        started = time.monotonic()
        while time.monotonic() - started < 1.1:
            counter.completed += 1
            await ahint("counter", "c1")
            await asyncio.sleep(0.005)
        await asyncio.sleep(3 * INTERVAL)
        assert len(counter.reads) <= 9
        last = await next_of(snapshots)  # those in between are skipped
        assert last["completed"] == counter.completed


async def test_it_reads_once_for_all_who_watch(counter: Counter) -> None:
    watchers = [progress.watch("counter", "c1") for _ in range(50)]
    firsts = await asyncio.gather(*(next_of(watcher) for watcher in watchers))
    await asyncio.sleep(2 * INTERVAL)
    reads = len(counter.reads)
    assert reads <= 4
    counter.final = True
    await ahint("counter", "c1")
    finals = await asyncio.gather(*(next_of(watcher) for watcher in watchers))
    assert len(counter.reads) == reads + 1
    assert [snapshot["final"] for snapshot in firsts + finals] == [False] * 50 + [True] * 50
    await asyncio.gather(*(watcher.aclose() for watcher in watchers))


async def test_it_begins_with_what_is_true_now(counter: Counter) -> None:
    async with aclosing(progress.watch("counter", "c1")) as earlier:
        await next_of(earlier)
        counter.completed = 5  # nobody is told
        async with aclosing(progress.watch("counter", "c1")) as later:
            assert (await next_of(later))["completed"] == 5


async def test_it_repeats_itself_when_nothing_happens(counter: Counter) -> None:
    async with aclosing(progress.watch("counter", "c1", idle=0.1)) as snapshots:
        first = await next_of(snapshots)
        assert await next_of(snapshots) is first
        assert len(counter.reads) <= 2


async def test_it_notices_without_hints(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are lossy, and there are none while Redis is away."""
    monkeypatch.setattr(progress, "POLL", 0.2)
    with override_settings(CHANNEL_LAYERS=UNREACHABLE):
        async with aclosing(progress.watch("counter", "c1")) as snapshots:
            await next_of(snapshots)
            counter.completed = 7
            assert (await next_of(snapshots))["completed"] == 7


@pytest.mark.parametrize("trouble", [OperationalError("PostgreSQL is away"), KeyError("a bug in a plugin's topic")])
async def test_it_survives_a_read_that_fails(
    counter: Counter, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "POLL", 0.2)
    counter.trouble = trouble
    async with aclosing(progress.watch("counter", "c1")) as snapshots:
        with pytest.raises(TimeoutError):
            await next_of(snapshots, 0.5)
    async with aclosing(progress.watch("counter", "c1")) as snapshots:
        counter.trouble = None
        assert (await next_of(snapshots))["id"] == "c1"


async def test_it_survives_a_reader_that_is_cancelled(counter: Counter) -> None:
    async def read() -> None:
        async with aclosing(progress.watch("counter", "c1")) as snapshots:
            async for _ in snapshots:
                pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    assert progress._feeds
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert not progress._feeds


def test_no_character_breaks_the_line_of_an_event() -> None:
    event = _event("progress", {"final": False, "message": "one\u2028two\u2029three\x85four"}).decode()
    assert len(event.splitlines()) == event.count("\n") == 3
