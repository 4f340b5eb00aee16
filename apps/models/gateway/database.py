"""The ORM for the gateway: in a few threads of its own, so that a slow query holds up no token."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from channels.db import DatabaseSyncToAsync

THREADS = 4

P = ParamSpec("P")
R = TypeVar("R")

_threads = ThreadPoolExecutor(THREADS, "gateway")


def in_thread(function: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """The function, to be awaited. Its connection goes back to the pool at its end."""
    call: Callable[P, Awaitable[R]] = DatabaseSyncToAsync(function, thread_sensitive=False, executor=_threads)
    return call
