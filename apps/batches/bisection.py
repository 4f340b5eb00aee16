"""Finds the line that kills the engine, among those that were with it when it died.

The suspects are tried in halves, each alone with the engine. A group that passes is innocent; one that kills the engine
is halved; a single line that kills it twice is guilty. One guilty line among w costs at most log2(w) + 3 restarts.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Bisection(Generic[T]):
    def __init__(self) -> None:
        self._groups: list[list[T]] = []  # the next to try is the last
        self._accused: T | None = None  # a single line that killed the engine once

    def group(self) -> list[T] | None:
        """What to send now, and nothing beside it; None when nobody is suspected."""
        return self._groups[-1] if self._groups else None

    def passed(self) -> None:
        """The group was answered, or dropped."""
        self._groups.pop()
        self._accused = None

    def died(self, in_flight: Iterable[T]) -> T | None:
        """The engine died with these lines in flight. Returns the guilty one once it is known."""
        suspects = list(in_flight)
        if self._groups:
            self._groups.pop()  # they were the group, or what the engine had not answered of it
        if not suspects:
            return None
        if len(suspects) > 1:
            middle = len(suspects) // 2
            self._groups += [suspects[middle:], suspects[:middle]]
            return None
        if self._accused == suspects[0]:
            self._accused = None
            return suspects[0]
        self._accused = suspects[0]
        self._groups.append(suspects)
        return None
