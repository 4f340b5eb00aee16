"""Reads a training file: bytes in, checked rows and errors out. It knows no model and no database.

Memory holds one line, whatever the file's size, and the first `MAX_ERRORS` errors.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from apps.training.files.json_lines import check_mark, too_long
from apps.training.files.rows import Row, RowError, Shape, check, shape_of
from apps.training.spec import Method

MAX_ERRORS = 100
MAX_KEYS, OTHER_KEYS = 50, "…"  # that are not used and told apart, and what the others are counted as
BLOCK = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    rows: int
    """At most."""
    line_bytes: int
    least: int = 1
    """Rows that there must be."""


@dataclass(frozen=True, slots=True)
class LineError:
    code: str
    message: str
    line: int | None = None
    """Counts from 1; None: the whole file is meant."""


@dataclass(slots=True)
class Reader:
    """Iterate over `rows()`; afterwards `errors`, `bad` and `count` are known."""

    file: IO[bytes]
    method: Method
    limits: Limits
    errors: list[LineError] = field(default_factory=list)
    """The first `MAX_ERRORS`."""
    bad: int = 0
    """Lines that cannot be used."""
    count: int = 0
    """Rows, bad ones too."""
    line: int = 0
    """The number of the last row that was given."""
    unused: Counter[str] = field(default_factory=Counter)
    """Rows that have a key of which nothing is made, by the key."""
    labels: Counter[bool] = field(default_factory=Counter)
    """Thumbs up and down."""
    shape: Shape | None = None
    """Of all rows."""
    _shape_line: int = 0

    def rows(self) -> Iterator[Row | LineError]:
        """The good rows, and what is wrong with the others. Reading goes on after a bad one: all are told at once."""
        for number, raw in _split(self.file, self.limits.line_bytes):
            if not raw.strip():
                continue
            self.count += 1
            try:
                row = self._row(number, raw)
            except RowError as error:
                yield self._add(error, number)
                if error.code in ("wrong_encoding", "too_many_rows"):
                    return
            else:
                self.line = number
                yield row
        if self.count < self.limits.least:
            yield self._add(self._too_few(), None)

    def _row(self, number: int, raw: bytes) -> Row:
        if number == 1:
            check_mark(raw)
        if self.count > self.limits.rows:
            message = f"The file has more than {self.limits.rows:,} examples: leave some out."
            raise RowError(message, "too_many_rows")
        if len(raw) > self.limits.line_bytes:
            raise too_long(self.limits.line_bytes)
        unused = set[str]()
        row = check(raw, self.method, unused)
        self._check_shape(number, row)
        if unused:
            self._count_unused(unused)
        if "label" in row:
            self.labels[row["label"]] += 1
        return row

    def _count_unused(self, keys: set[str]) -> None:
        for key in keys:
            self.unused[key if key in self.unused or len(self.unused) < MAX_KEYS else OTHER_KEYS] += 1

    def _check_shape(self, number: int, row: Row) -> None:
        shape = shape_of(row)
        if self.shape is None:
            self.shape, self._shape_line = shape, number
        if shape != self.shape:
            message = f"It is of the shape {shape!r}, line {self._shape_line:,} of the shape {self.shape!r}: use one."
            raise RowError(message, "mixed_shapes")

    def _too_few(self) -> RowError:
        if not self.count:
            return RowError("The file holds no example: write one JSON object on each line.", "empty_file")
        few, least = self.count, self.limits.least
        message = f"The file holds {few} example{'s' * (few != 1)}, and at least {least} are needed: add some."
        return RowError(message, "too_few_rows")

    def _add(self, error: RowError, line: int | None) -> LineError:
        self.bad += line is not None
        made = LineError(error.code, str(error), line)
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(made)
        return made


def _split(file: IO[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines. One beyond `limit` is passed over in blocks and given as its first `limit` + 1 bytes."""
    number = 0
    while raw := file.readline(limit + 2):
        number += 1
        if not raw.endswith(b"\n") and len(raw) > limit + 1:
            while (rest := file.readline(BLOCK)) and not rest.endswith(b"\n"):
                pass
        yield number, raw.rstrip(b"\r\n")
