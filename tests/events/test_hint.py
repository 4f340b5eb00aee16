import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import transaction
from django.test import override_settings

from apps.events import hints
from apps.events.hints import INTERVAL, ahint, group, hint

UNREACHABLE = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": ["unix:///nonexistent/valkey.sock"]},
    }
}


class Ear:
    """Counts the hints about one object."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def listen(self, uid: str) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(group("batch", uid), channel)
        self.ready.set()
        while True:
            await layer.receive(channel)
            self.times.append(time.monotonic())

    async def start(self, uid: str) -> None:
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(self.listen(uid))
        await asyncio.wait_for(self.ready.wait(), 5)


@pytest_asyncio.fixture
async def ear(servers: None) -> AsyncIterator[Ear]:
    ear = Ear()
    await ear.start("batch_1")
    yield ear
    ear.task.cancel()
    await asyncio.gather(ear.task, return_exceptions=True)


async def test_it_works(ear: Ear) -> None:
    await ahint("batch", "batch_1")
    await ahint("batch", "batch_2")
    await asyncio.sleep(3 * INTERVAL)
    assert len(ear.times) == 1


async def test_it_sends_four_a_second_and_never_forgets_the_last(ear: Ear) -> None:
    started = time.monotonic()
    while time.monotonic() - started < 1.1:
        await ahint("batch", "batch_1")
        last = time.monotonic()
        await asyncio.sleep(0.001)
    await asyncio.sleep(2 * INTERVAL)
    assert 4 <= len(ear.times) <= 7
    assert ear.times[0] - started < INTERVAL  # the first at once
    assert ear.times[-1] >= last  # the last after all that happened


@pytest.mark.django_db(transaction=True)
async def test_it_waits_for_the_commit(ear: Ear) -> None:
    def change(*, fail: bool) -> None:
        with transaction.atomic():
            hint("batch", "batch_1")
            time.sleep(2 * INTERVAL)
            assert not ear.times
            transaction.set_rollback(fail)

    await database_sync_to_async(change)(fail=True)
    await asyncio.sleep(2 * INTERVAL)
    assert not ear.times
    await database_sync_to_async(change)(fail=False)
    await asyncio.sleep(2 * INTERVAL)
    assert len(ear.times) == 1


def test_it_survives_a_dead_redis(caplog: pytest.LogCaptureFixture) -> None:
    hints._sender.cache_clear()
    with override_settings(CHANNEL_LAYERS=UNREACHABLE):
        started = time.monotonic()
        for number in range(100):
            asyncio.run(ahint("batch", f"batch_{number}"))
        assert time.monotonic() - started < 1  # nobody waited
        time.sleep(1)
    hints._sender.cache_clear()
    (record,) = [record for record in caplog.records if record.name == hints.__name__]
    assert "Redis is away" in record.message


async def test_it_works_again_after_a_dead_redis(ear: Ear) -> None:
    await ahint("batch", "batch_1")
    await asyncio.sleep(2 * INTERVAL)
    assert len(ear.times) == 1
