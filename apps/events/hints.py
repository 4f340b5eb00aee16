"""Hints that something changed, through the channel layer. Lossy: they carry nothing, and watchers look by themselves.

One thread a process sends them, so that a slow or dead Redis never delays who calls, in asyncio or out of it.
"""

import asyncio
import functools
import logging
import os
import threading
import time

from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

INTERVAL = 0.25  # seconds between two hints about one object; the last one is always sent
SEND_SECONDS = 2
COMPLAIN_SECONDS = 60

log = logging.getLogger(__name__)


def group(topic: str, uid: str) -> str:
    """The channel layer's group of those who watch the object."""
    return f"{topic}.{uid}"


def hint(topic: str, uid: str) -> None:
    """Tell watchers that the object changed, once the surrounding transaction has committed."""
    transaction.on_commit(lambda: _sender().changed(group(topic, uid)))


async def ahint(topic: str, uid: str) -> None:
    """Tell watchers that the object changed: for asyncio code, which commits by itself before. Does not wait."""
    _sender().changed(group(topic, uid))


class _Sender:
    """A thread with an event loop. A first hint goes out at once, those within INTERVAL become one at its end."""

    def __init__(self) -> None:
        self._again: dict[str, bool] = {}  # groups told less than INTERVAL ago -> whether they changed since
        self._sending: set[asyncio.Task[None]] = set()
        self._complained = -float(COMPLAIN_SECONDS)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="progress-hints", daemon=True).start()

    def changed(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self._changed, name)

    def _changed(self, name: str) -> None:
        if name in self._again:
            self._again[name] = True
        else:
            self._tell(name)

    def _tell(self, name: str) -> None:
        self._again[name] = False
        self._loop.call_later(INTERVAL, self._rested, name)
        task = self._loop.create_task(self._send(name))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _rested(self, name: str) -> None:
        if self._again.pop(name):
            self._tell(name)

    async def _send(self, name: str) -> None:
        layer = get_channel_layer()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await layer.group_send(name, {"type": "changed"})
        except (RedisError, OSError) as error:  # OSError: a timeout is one
            if time.monotonic() - self._complained >= COMPLAIN_SECONDS:
                self._complained = time.monotonic()
                log.warning("Live progress is slower, Redis is away: %s", error)


@functools.cache
def _sender() -> _Sender:
    return _Sender()


os.register_at_fork(after_in_child=_sender.cache_clear)  # a forked process has none of the parent's threads
