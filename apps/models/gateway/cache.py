"""What was looked up in the database a moment ago, so that most requests need not ask it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Remembers what `load` returned, not what it raised. All who ask for the same share one call.

    A value that is used is loaded again before it is too old, while the old one still serves: nobody waits for it.
    """

    def __init__(self, load: Callable[[K], Awaitable[V]], *, seconds: Callable[[V], float], size: int) -> None:
        """`seconds` tells how long a value may be used, `size` how many are kept: the oldest make room."""
        self._load, self._seconds, self._size = load, seconds, size
        self._values: dict[K, tuple[V, float, float]] = {}  # with the moments to renew it, and to use it no more
        self._loading: dict[K, asyncio.Task[V]] = {}

    def peek(self, key: K) -> V | None:
        """The value, if it is here and fresh."""
        value, renew, end = self._values.get(key) or (None, 0.0, 0.0)
        now = time.monotonic()
        if now >= end:
            return None
        if now >= renew:
            self._start(key)
        return value

    async def get(self, key: K) -> V:
        """The value. Raises what `load` raises."""
        value = self.peek(key)
        return await asyncio.shield(self._start(key)) if value is None else value

    def forget(self, key: K) -> None:
        self._values.pop(key, None)

    def _start(self, key: K) -> asyncio.Task[V]:
        """The task that loads it: one, whoever asks."""
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._keep(key))
            task.add_done_callback(lambda done: self._loaded(key, done))
        return task

    async def _keep(self, key: K) -> V:
        began = time.monotonic()
        value = await self._load(key)
        seconds = self._seconds(value)
        self._values.pop(key, None)
        self._values[key] = (value, began + seconds / 2, began + seconds)
        if len(self._values) > self._size:
            del self._values[next(iter(self._values))]
        return value

    def _loaded(self, key: K, task: "asyncio.Task[V]") -> None:
        del self._loading[key]
        if task.cancelled() or task.exception():  # also marks the exception as seen
            self.forget(key)
