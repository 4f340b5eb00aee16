"""Which rows show every key and type that the rows of a file have."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from apps.conversations.codecs import CannotHold
from apps.conversations.conversation import encode
from apps.datasets.exports.formats.format import Row

MOST = 100


def leading_rows(rows: Iterable[Row], line: Callable[[Row], dict[str, Any]]) -> list[Row]:
    """Those that hold a key, a type, or a difference between keys that none before them has: a few.

    Where objects of one place differ in their keys, `datasets` keeps them as JSON, and whatever else they hold fits.
    """
    seen, found = _Object(), list[Row]()
    for row in rows:
        try:
            values = msgspec.json.decode(encode(line(row)))
        except CannotHold:
            continue
        if seen.learns_of_columns(values):
            found.append(row)
        if len(found) == MOST:
            break
    return found


class _Place:
    """What the values of one place were so far."""

    def __init__(self) -> None:
        self.types = set[type]()
        self.settled = False
        """Objects with different keys, or objects beside other values: kept as JSON."""
        self.fields: _Object | None = None
        self.entries: _Place | None = None

    def learns_of(self, value: Any) -> bool:
        if value is None or self.settled:
            return False
        new = type(value) not in self.types
        self.types.add(type(value))
        if len(self.types) > 1 and self.types & {dict, list}:
            self.settled = True
            return True
        if isinstance(value, dict):
            return self._learns_of_object(value) or new
        if isinstance(value, list):
            self.entries = self.entries or _Place()
            return any(list(map(self.entries.learns_of, value))) or new
        return new

    def _learns_of_object(self, value: dict[str, Any]) -> bool:
        self.fields = self.fields or _Object()
        if self.fields.keys is None:
            self.fields.keys = value.keys()
        if self.fields.keys != value.keys():
            self.settled, self.fields = True, None
            return True
        return self.fields.learns_of_columns(value)


class _Object:
    def __init__(self) -> None:
        self.keys: Any = None
        self._places: dict[str, _Place] = {}

    def learns_of_columns(self, values: dict[str, Any]) -> bool:
        return any(list(self._learned(values)))

    def _learned(self, values: dict[str, Any]) -> Iterator[bool]:
        for key, value in values.items():
            yield self._places.setdefault(key, _Place()).learns_of(value)
