"""Which connection is closed where there are more than the server takes: the least useful one."""

from collections import deque
from collections.abc import Collection
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

LOOK_INTERVAL_SECONDS = 0.1  # between two looks at all connections, where the first found few to close
MANY = 10  # one in so many: all connections are looked at again as soon as those that were found are closed


class Rank(IntEnum):
    """What a connection does: the first of these is closed first."""

    NO_REQUEST_YET = 0
    BETWEEN_REQUESTS = 1
    STALLED_ANSWER = 2
    SILENT_SOCKET = 3
    SLOW_BODY = 4


@runtime_checkable
class Connection(Protocol):
    """A client's connection, with the event loop's clock as `now`."""

    def look(self, now: float) -> None:
        """Close it if a deadline is over. To be called about once a second: deadlines cost no timer of their own."""

    def rank(self, now: float) -> tuple[Rank, float] | None:
        """How soon it is closed for another, the least first; None: it stays."""

    def evict(self) -> None:
        """Close it for another."""


class Evictor:
    """Sorts all connections once, and then closes one for each that is new: a crowd costs no more than it is large."""

    def __init__(self) -> None:
        self._found: deque[tuple[Rank, Connection]] = deque()
        self._found_few_at: float | None = None

    def evict_one(self, connections: Collection[Any], new: Connection, now: float) -> bool:
        """False: each of them does something useful."""
        if self._evict_next(now):
            return True
        if self._found_few_at is not None and now - self._found_few_at < LOOK_INTERVAL_SECONDS:
            return False
        others = (other for other in connections if isinstance(other, Connection) and other is not new)
        ranked = [(rank, other) for other in others if (rank := other.rank(now))]
        ranked.sort(key=lambda pair: pair[0])
        self._found = deque((rank, other) for (rank, _), other in ranked)
        self._found_few_at = now if len(ranked) * MANY < len(connections) else None
        return self._evict_next(now)

    def _evict_next(self, now: float) -> bool:
        while self._found:
            then, connection = self._found.popleft()
            rank = connection.rank(now)
            if rank and rank[0] <= then:  # or it became useful since
                connection.evict()
                return True
        return False


def look_at(connections: Collection[Any], now: float) -> None:
    """Close all that took too long."""
    for connection in list(connections):
        if isinstance(connection, Connection):
            connection.look(now)
