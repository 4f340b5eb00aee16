"""Reads a file of rows: bytes in, rows and flaws out, each with its line. It knows no model and no database.

Memory holds one row, whatever the file's size. A flaw is about one row, and reading goes on behind it; what leaves
nothing further to read (another encoding, a quote that never ends) raises a `DomainError`.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, NoReturn

import msgspec

from apps.conversations import json_text
from apps.conversations.errors import RowError
from apps.core.errors import DomainError

BLOCK = 1024 * 1024  # bytes
HEAD = 64 * 1024  # bytes from which the format is told
MAX_COLUMNS = 500
MAX_DEPTH = 64  # of nested JSON: whoever works with a row later must not run out of stack
DELIMITERS = ",;\t|"
BOM = b"\xef\xbb\xbf"

csv.field_size_limit(sys.maxsize)  # `_Lines` bounds whole rows, which bounds their fields


class Row(msgspec.Struct, frozen=True):
    line: int
    """Counts from 1; where the row begins. Of Parquet, the row."""
    values: dict[str, Any]
    text: str
    """The values as JSON; of JSONL, as it came."""
    place: str = ""
    """Where the line alone does not say it: the file of an archive, the element of an array."""
    split: str = ""
    """That the file's own structure puts it in, as "train"."""

    def within(self, name: str, split: str = "") -> "Row":
        place = f"{name}: {self.place}" if self.place else name
        return msgspec.structs.replace(self, place=place, split=split or self.split)


class Flaw(msgspec.Struct, frozen=True):
    """Why one row cannot be used."""

    line: int
    message: str

    def within(self, name: str, _split: str = "") -> "Flaw":
        return Flaw(self.line, f"{name}: {self.message}")


def read_jsonl(file: IO[bytes], *, row_bytes: int) -> Iterator[Row | Flaw]:
    """One JSON object per line; empty lines are passed over."""
    for line, raw in _split(file, row_bytes):
        if not raw.strip():
            continue
        try:
            yield _json_row(line, raw, row_bytes)
        except RowError as error:
            yield Flaw(line, str(error))


def read_csv(file: IO[bytes], *, row_bytes: int) -> Iterator[Row | Flaw]:
    """Rows under a header. The delimiter is the one that divides the header most. Raises `DomainError`."""
    lines = _Lines(file, row_bytes)
    rows = csv.reader(lines, delimiter=_delimiter(lines.peek_header()), strict=True)
    header = _header(next(_csv_rows(rows, lines), None))
    for row in _csv_rows(rows, lines):
        if isinstance(row, Flaw):
            yield row
            continue
        line, fields = row
        if len(fields) != len(header):
            yield Flaw(line, f"This row has {_fields(len(fields))}, the header has {_fields(len(header))}.")
        elif any("\0" in field for field in fields):
            yield Flaw(line, "This row holds a NUL character.")
        else:
            values = dict(zip(header, fields, strict=True))
            yield Row(line, values, json.dumps(values, ensure_ascii=False))


def checked(line: int, values: Any, raw: bytes, place: str = "") -> Row:
    """A row of decoded JSON. Raises `RowError` for what must not be stored: NUL, no object, nesting without end."""
    if not isinstance(values, dict):
        raise RowError("This line is no JSON object: write {…}.")
    if len(values) > MAX_COLUMNS:
        raise RowError(f"This row has {len(values):,} columns; at most {MAX_COLUMNS} can be read.")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(values) > MAX_DEPTH:
        raise RowError(f"This line is nested more than {MAX_DEPTH} levels deep.")
    if b"\\u0000" in raw and _holds_nul(values):
        raise RowError("This row holds a NUL character.")
    return Row(line, values, raw.decode(), place)


def decoded(raw: bytes) -> Any:
    """The JSON value. Raises `RowError`."""
    try:
        return json_text.decoded(raw)
    except UnicodeDecodeError as error:
        raise RowError("This line is not valid UTF-8.") from error
    except RecursionError as error:
        raise RowError(f"This line is nested more than {MAX_DEPTH} levels deep.") from error
    except msgspec.DecodeError as error:
        raise RowError(_json_sentence(raw, error)) from error


def _json_row(line: int, raw: bytes, limit: int) -> Row:
    if len(raw) > limit:
        raise RowError(f"This line has more than {limit:,} bytes, which is the limit.")
    return checked(line, decoded(raw), raw)


def _json_sentence(raw: bytes, error: msgspec.DecodeError) -> str:
    """msgspec says "truncated" of half a surrogate pair, too."""
    try:
        json.loads(raw, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return f"This line is not valid JSON: {error}."
    if b"\\ud" in raw.lower():
        return "This line holds half a surrogate pair, which is broken Unicode."
    return f"This line holds a number that cannot be kept: {error}."


def _no_json(name: str) -> NoReturn:
    raise ValueError(name)


def _split(file: IO[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines. One beyond `limit` is passed over in blocks and given as its first `limit` + 1 bytes."""
    number = 0
    while raw := file.readline(limit + 2):
        number += 1
        if number == 1:
            raw = raw.removeprefix(BOM)
        if not raw.endswith(b"\n") and len(raw) > limit + 1:
            while (rest := file.readline(BLOCK)) and not rest.endswith(b"\n"):
                pass
        yield number, raw.rstrip(b"\r\n")


def _depth(value: Any) -> int:
    """How deep lists and objects lie in each other, without recursion."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return deepest


def _holds_nul(value: Any) -> bool:
    """Whether any text in it does; it is nested `MAX_DEPTH` deep at most."""
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


class _Lines:
    """The lines of a CSV file as text, of which `csv` takes several for a row with quoted line feeds."""

    def __init__(self, file: IO[bytes], row_bytes: int) -> None:
        self._limit = row_bytes
        self._peeked: list[str] = []
        self._readline = _line_reader(file, row_bytes)
        self._read = 0  # lines
        self._row_bytes = 0
        self.row_line = 1  # where the row begins that is being read

    def peek_header(self) -> str:
        """The lines of the first row."""
        header = ""
        while text := self._next():
            self._peeked.append(text)
            header += text
            if header.count('"') % 2 == 0:
                break
        return header

    def begin_row(self) -> None:
        self.row_line, self._row_bytes = self.line + 1, 0

    @property
    def line(self) -> int:
        """The latest that was taken."""
        return self._read - len(self._peeked)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        text = self._peeked.pop(0) if self._peeked else self._next()
        if not text:
            raise StopIteration
        return text

    def _next(self) -> str:
        raw = self._readline(self._limit + 2)
        self._read += bool(raw)
        self._row_bytes += len(raw)
        if self._row_bytes > self._limit + 1:
            message = f"Line {self.row_line:,}: the row has more than {self._limit:,} bytes. Is a quote not closed?"
            raise DomainError(message, param="file")
        try:
            return (raw.removeprefix(BOM) if self._read == 1 else raw).decode()
        except UnicodeDecodeError as error:
            message = f"Line {self._read:,} is not valid UTF-8: save the file as UTF-8."
            raise DomainError(message, param="file") from error


class _ReturnLines:
    """The lines of a file in which a bare carriage return ends one, too."""

    def __init__(self, first: bytes, read: Callable[[int], bytes]) -> None:
        self._buffer, self._read = first, read
        self._at = 0  # in the buffer

    def readline(self, limit: int) -> bytes:
        """With its end; what is longer comes in pieces of `limit` bytes."""
        end = self._end()
        while end is None and len(self._buffer) - self._at < limit:
            more = self._read(BLOCK)
            self._buffer, self._at = self._buffer[self._at :] + more, 0
            end = self._end() if more else len(self._buffer)
        begin, self._at = self._at, min(self._at + limit, end or sys.maxsize)
        return self._buffer[begin : self._at]

    def _end(self) -> int | None:
        """Where the line ends; None where its end is not read yet, as a line feed that may follow."""
        found = _LINE_END.search(self._buffer, self._at)
        return found.end() if found and found.end() < len(self._buffer) else None


_LINE_END = re.compile(rb"\r\n|\r|\n")
_BARE_RETURN = re.compile(rb'[^"\r]*+(?>(?:"[^"]*+"[^"\r]*+)*)\r++(?!\n|\Z)')  # outside of quotes


def _line_reader(file: IO[bytes], limit: int) -> Callable[[int], bytes]:
    """`readline` of a file whose lines end as its first does: with a line feed, or as old Macs', which is kept apart
    since a carriage return in the midst of a line is otherwise an error of the row."""
    first = file.readline(limit + 2)
    if _BARE_RETURN.match(first):
        return _ReturnLines(first, file.read).readline
    waiting = [first]
    return lambda size: waiting.pop() if waiting else file.readline(size)


def _csv_rows(rows: Any, lines: _Lines) -> Iterator[tuple[int, list[str]] | Flaw]:
    while True:
        lines.begin_row()
        try:
            fields = next(rows, None)
        except csv.Error as error:
            span = f" It goes on to line {lines.line:,}." if lines.line > lines.row_line else ""
            yield Flaw(lines.row_line, f"This row is not valid CSV: {error}.{span}")
            continue
        if fields is None:
            return
        if fields:
            yield lines.row_line, fields


def _header(row: tuple[int, list[str]] | Flaw | None) -> list[str]:
    if row is None:
        raise DomainError("The file is empty: write a header and a row per example.", param="file")
    if isinstance(row, Flaw):
        raise DomainError(f"The header cannot be read: {row.message}", param="file")
    header = [name.strip() for name in row[1]]
    if len(header) > MAX_COLUMNS:
        message = f"The file has {len(header):,} columns; at most {MAX_COLUMNS} can be read. Remove some."
        raise DomainError(message, param="file")
    if not all(header):
        raise DomainError("A column has no name: give each one in the first line.", param="file")
    if any("\0" in name for name in header):
        raise DomainError("The header holds a NUL character.", param="file")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DomainError(f"Two columns are called {twice[:60]!r}: rename one of them.", param="file")
    return header


def _fields(count: int) -> str:
    return f"{count:,} field{'s' * (count != 1)}"


def _delimiter(header: str) -> str:
    def columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader(io.StringIO(header, newline=""), delimiter=delimiter), []))
        except csv.Error:
            return 0  # the header is read again, and says what is wrong

    return max(DELIMITERS, key=columns)
