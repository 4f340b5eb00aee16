"""Live progress: what the WebSocket and the server-sent events show, from one place.

A topic says who may see an object and reads its counters from PostgreSQL. Those who change it call `hint`; those who
look use `watch`. However many look at an object, a process reads it at most four times a second.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.db import Error
from redis.exceptions import RedisError

from apps.accounts.models import Project
from apps.events.hints import INTERVAL, ahint, group, hint
from apps.events.rates import Rates

__all__ = ["Snapshot", "Topic", "ahint", "authorize", "hint", "register", "watch"]

POLL = 5.0  # seconds after which watchers look without a hint

Snapshot = dict[str, Any]

log = logging.getLogger(__name__)


class Topic(Protocol):
    """A kind of object that can be watched. Both methods are plain database reads."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        """Whether the user, or the project of an API key, may see the object. False where there is none."""

    def snapshot(self, uid: str) -> Snapshot | None:
        """The object now, ready for JSON, with `final`: it will not change. None: it is gone.

        What counts tokens has what `Rates` reads.
        """


_topics: dict[str, Topic] = {}
_feeds: dict[tuple[asyncio.AbstractEventLoop, str, str], "_Feed"] = {}


def register(name: str, topic: Topic) -> None:
    _topics[name] = topic


def authorize(topic: str, who: User | Project, uid: str) -> bool:
    return topic in _topics and _topics[topic].authorize(who, uid)


async def watch(topic: str, uid: str, *, idle: float | None = None) -> AsyncGenerator[Snapshot]:
    """The object now, then after each change, at most four times a second; ends with its final state, or its end.

    After `idle` seconds without a change the last snapshot comes again, the same object. A slow reader misses states
    in between, never the last one. It does not ask who looks: call `authorize` before.
    """
    key = (asyncio.get_running_loop(), topic, uid)
    feed = _feeds.get(key)
    if feed is None:
        feed = _feeds[key] = _Feed(topic, uid)
    feed.watchers += 1
    feed.changed.set()
    seen, joined = 0, time.monotonic()
    try:
        while await feed.wait_for_news(seen, joined, idle):
            seen = feed.version
            yield feed.snapshot
    finally:
        feed.watchers -= 1
        if not feed.watchers:
            _feeds.pop(key, None)
            await feed.close()


class _Feed:
    """The latest snapshot of one object, for all who watch it in this event loop."""

    def __init__(self, topic: str, uid: str) -> None:
        self.watchers = 0
        self.version = 0
        self.snapshot: Snapshot = {}
        self.changed = asyncio.Event()
        self._topic, self._uid = topic, uid
        self._ended = False
        self._read_at = 0.0  # on the monotonic clock: when the latest read began
        self._news = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._look())]

    async def wait_for_news(self, seen: int, joined: float, idle: float | None) -> bool:
        """Wait for a snapshot after version `seen`, and no older than `joined`; or `idle` seconds. False at the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(idle if seen else None), self._news:
                await self._news.wait_for(
                    lambda: (self.version > seen and self._read_at >= joined) or self._ended,
                )
        return self.version > seen or not self._ended

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Read the object whenever it changed, until it will not change again."""
        read = database_sync_to_async(_topics[self._topic].snapshot, thread_sensitive=False)
        rates = Rates()
        while self.watchers and not self._ended:
            self.changed.clear()
            started = time.monotonic()
            try:
                snapshot = await read(self._uid)
                shown = snapshot and {**snapshot, **rates.of(snapshot)}
            except Exception as error:
                bug = not isinstance(error, Error)  # else the database is away, which says it all
                log.warning("Progress of %s could not be read, trying again: %s", self._uid, error, exc_info=bug)
            else:
                await self._publish(shown, started)
            await asyncio.sleep(INTERVAL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), POLL)

    async def _publish(self, snapshot: Snapshot | None, read_at: float) -> None:
        async with self._news:
            self._read_at = read_at
            self._ended = snapshot is None or snapshot["final"]
            if snapshot is not None and snapshot != self.snapshot:
                self.snapshot = snapshot
                self.version += 1
            self._news.notify_all()

    async def _listen(self) -> None:
        """Turn hints into looks. Without Redis there are none, and looking every POLL seconds has to do."""
        layer, name = get_channel_layer(), group(self._topic, self._uid)
        while self.watchers:  # asked besides cancelling, which redis-py may swallow while it connects
            try:
                channel = await layer.new_channel()
                await layer.group_add(name, channel)
                try:
                    while self.watchers:
                        self.changed.set()
                        await layer.receive(channel)
                finally:
                    await layer.group_discard(name, channel)
            except (RedisError, OSError):
                await asyncio.sleep(POLL)
