"""Cuts a JSON text into its rows while it is read: an array, an object around an array, or objects one after another.

Memory holds a row and a block. Only brackets and quotes are looked at here; what lies between is judged by
`readers.decoded`, as a line of JSONL is: parsers of events (ijson) make a Python object of every token first. Where the
text breaks off there is no telling what the rest was: a `DomainError` says at which line.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from apps.conversations.errors import RowError
from apps.core.errors import DomainError
from apps.datasets.imports.names import listed, printable, split_of
from apps.datasets.imports.readers import BLOCK, BOM, Flaw, Row, checked, decoded

WRAPPERS = ("data", "rows", "examples", "items", "records", "instances", "samples", "results")
"""Keys under which files keep their rows, beside the names of splits."""
DESCRIPTIONS = ("features",)
"""Lists of objects that are no rows: the dataset viewer describes the columns so."""
ROW_KEYS = frozenset({
    "messages", "conversations", "conversation", "chosen", "rejected", "prompt", "completion", "instruction",
    "question", "answer", "body", "text", "input", "output", "response", "annotations", "predictions",
    "conversation_a", "conversation_b", "completions", "preferred_output", "context", "query",
})  # fmt: skip
"""An object with one of these is a row itself."""
VIEWER_KEYS = frozenset({"row_idx", "row", "truncated_cells"})
"""Of a row as the dataset viewer's API gives it: https://huggingface.co/docs/dataset-viewer/rows."""

LOOK_BYTES = 256

# A group is made possessive by (?>…): with *+ it matches too little on Python 3.11 before 3.11.5.
_SPACE = re.compile(rb"[ \t\r\n]*+")
_TEXT = rb'[^"\\\n]*+(?>(?:\\[^\n][^"\\\n]*+)*)'  # what lies between its quotes
_FLAT = rb'[^"{}\[\]]*+(?>(?:"' + _TEXT + rb'"[^"{}\[\]]*+)*)'  # what lies between brackets
_INSIDE, _OUTSIDE = re.compile(_TEXT), re.compile(_FLAT)
_SCALAR = re.compile(rb"[^,:{}\[\]\s\"]*+")
_OBJECTS = re.compile(rb"\[[ \t\r\n]*+(?:\{|\]|\Z)")  # a list of objects, or an empty one
_NUMBERED = re.compile(rb'\{[ \t\r\n]*+"0"[ \t\r\n]*+:')
_BREAKS = re.compile(rb"[\r\n][ \t\r\n]*+")


def _balanced(depth: int) -> re.Pattern[bytes]:
    """A list or an object in which others are nested so deep: most rows, at once."""
    pattern = rb"[{\[]" + _FLAT + rb"[}\]]"
    for _ in range(depth):
        pattern = rb"[{\[]" + _FLAT + rb"(?>(?:" + pattern + _FLAT + rb")*)[}\]]"
    return re.compile(pattern)


_WHOLE = _balanced(5)


class JsonText:
    """A text that is read from its beginning to its end, value by value."""

    def __init__(self, file: IO[bytes], value_bytes: int) -> None:
        self._file, self._limit = file, value_bytes
        self._buffer, self._at = b"", 0
        self.line = 1
        while len(self._buffer) < len(BOM) and self._more(0):
            pass
        self._buffer = self._buffer.removeprefix(BOM)

    def peek(self) -> bytes:
        """The next byte that is no space; b"" at the end."""
        found = self._buffer[self._at : self._at + 1]
        if found and found not in b" \t\r\n":
            return found
        while True:
            self._advance(_SPACE.match(self._buffer, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._more(self._at):
                return b""

    def take(self, wanted: bytes) -> None:
        """Pass over a byte. Raises `DomainError` where another one comes."""
        found = self.peek()
        if found != wanted:
            what = repr(found.decode("latin-1")) if found else "the end of the file"
            message = f"Line {self.line:,}: {wanted.decode()!r} is expected, but {what} comes. Is the file whole?"
            raise DomainError(message, param="file")
        self._at += 1

    def begins(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether what comes looks so."""
        self.peek()
        while len(self._buffer) - self._at < LOOK_BYTES and self._more(self._at):
            pass
        return pattern.match(self._buffer, self._at) is not None

    def value(self) -> bytes | None:
        """The value that comes; None where it has more bytes than the limit, and was passed over."""
        first = self.peek()
        if first in (b"{", b"["):
            if whole := _WHOLE.match(self._buffer, self._at):
                return self._taken(self._at, whole.end())
            return self._nested(depth=0, inside=False)
        if first == b'"':
            self._at += 1
            found = self._nested(depth=0, inside=True)
            return None if found is None else b'"' + found
        return self._scalar()

    def rest_of_line(self) -> None:
        """Pass over it."""
        while (end := self._buffer.find(b"\n", self._at)) < 0 and self._more(len(self._buffer)):
            pass
        self._advance(end + 1 if end >= 0 else len(self._buffer))

    def _nested(self, depth: int, *, inside: bool) -> bytes | None:
        """From here to where as many brackets are closed as were opened."""
        begin, at, line, long = self._at, self._at, self.line, False
        while True:
            buffer = self._buffer
            at = (_INSIDE if inside else _OUTSIDE).match(buffer, at).end()  # type: ignore[union-attr]
            mark = buffer[at : at + 1]
            if mark == b'"':
                inside, at = not inside, at + 1
            elif mark in (b"{", b"["):
                depth, at = depth + 1, at + 1
            elif mark in (b"}", b"]"):
                depth, at = depth - 1, at + 1
            elif mark == b"\n" or (mark == b"\\" and at + 1 < len(buffer)):
                raise self._broken_text(at)
            else:
                long = long or at - begin > self._limit
                keep = at if long else begin
                if not self._more(keep):
                    raise _cut_off(line)
                begin, at = 0, at - keep
                continue
            if depth <= 0 and not inside:
                return self._taken(begin, at, long)

    def _taken(self, begin: int, end: int, long: bool = False) -> bytes | None:
        self._advance(end)
        return None if long or end - begin > self._limit else self._buffer[begin:end]

    def _scalar(self) -> bytes | None:
        """A number, a word, or a byte that begins no value."""
        begin, at, long = self._at, self._at, False
        while (at := _SCALAR.match(self._buffer, at).end()) == len(self._buffer):  # type: ignore[union-attr]
            long = long or at - begin > self._limit
            keep = at if long else begin
            if not self._more(keep):
                break
            begin, at = 0, at - keep
        stands = at == begin and not long
        return self._taken(begin, min(at + stands, len(self._buffer)), long)

    def _broken_text(self, at: int) -> DomainError:
        line = self.line + self._buffer.count(b"\n", self._at, at)
        message = f"Line {line:,}: a text is not closed. Write a line break within a text as \\n."
        return DomainError(message, param="file")

    def _advance(self, to: int) -> None:
        self.line += self._buffer.count(b"\n", self._at, to)
        self._at = to

    def _more(self, keep: int) -> bool:
        """Read a block behind what is kept from there on. False at the end of the file."""
        block = self._file.read(BLOCK)
        if not block:
            return False
        if keep > self._at:
            self._advance(keep)
        self._buffer = self._buffer[keep:] + block
        self._at = max(self._at - keep, 0)
        return True


def _cut_off(line: int) -> DomainError:
    message = f"What begins in line {line:,} does not end: the file is cut off, or a quote or a bracket is missing."
    return DomainError(message, param="file")


@dataclass(slots=True)
class Outline:
    """What the first bytes of a text that begins with an object tell of it."""

    kinds: dict[str, str] = field(default_factory=dict)
    """Of the first object's values: objects, list, numbered (an object with the keys "0", "1" …) or other."""
    whole: bool = False
    """The first object ends within them."""
    alone: bool = False
    """Nothing comes behind it."""
    next_in_line: bool = False
    """Another object begins in the line in which it ends."""

    @property
    def wraps(self) -> bool:
        """Whether it is no row, but holds lists of rows. Raises `DomainError` where that cannot be told."""
        lists = [name for name, kind in self.kinds.items() if kind == "objects" and name not in DESCRIPTIONS]
        if not lists or (self.whole and not self.alone):
            return False
        if not ROW_KEYS.isdisjoint(self.kinds):
            return False
        if len(self.kinds) == 1 or any(name in WRAPPERS or split_of(name) for name in lists):
            return True
        if not self.whole:
            return False
        names = " or ".join(repr(name[:60]) for name in lists)
        message = f"The file is one object. Are its rows in {names}? Write them as an array, or one on each line."
        raise DomainError(message, param="file")

    @property
    def turned(self) -> bool:
        """Whether it has a list for each column, as `DataFrame.to_json` and `to_dict` write a table."""
        return self.alone and len(self.kinds) > 1 and set(self.kinds.values()) in ({"list"}, {"numbered"})


def outline(head: bytes) -> Outline:
    """Of a text of which these are the first bytes, or all."""
    text, found = JsonText(io.BytesIO(head), len(head)), Outline()
    try:
        text.take(b"{")
        for name in _names(text):
            found.kinds[name] = _kind(text)
            text.value()
        line = text.line
        found.whole = True
        found.alone = not (more := text.peek())
        found.next_in_line = more == b"{" and text.line == line
    except (DomainError, RowError):
        pass  # it breaks off, or is broken: whoever reads on says so
    return found


def _kind(text: JsonText) -> str:
    first = text.peek()
    if first == b"[":
        return "objects" if text.begins(_OBJECTS) else "list"
    return "numbered" if text.begins(_NUMBERED) else "other"


def _names(text: JsonText) -> Iterator[str]:
    """The keys of an object whose bracket was taken; the caller takes each value. Raises `DomainError`."""
    if text.peek() == b"}":
        text.take(b"}")
        return
    while True:
        line = text.line
        name = text.value() if text.peek() == b'"' else None
        try:
            known = decoded(name or b"")
        except RowError as error:
            message = f"Line {line:,}: the name of a value is expected. Is the file whole?"
            raise DomainError(message, param="file") from error
        text.take(b":")
        yield str(known)
        if text.peek() != b",":
            text.take(b"}")
            return
        text.take(b",")


def read_json(file: IO[bytes], *, row_bytes: int, wraps: bool, notes: list[str]) -> Iterator[Row | Flaw]:
    """Rows with their lines, and their numbers as places. `notes` get sentences on what is read and what is not.

    Raises `DomainError` where the text breaks off, and for objects with several lists that are no splits.
    """
    text = JsonText(file, row_bytes)
    if text.peek() == b"[":
        yield from _array(text)
    elif wraps:
        yield from _wrapped(text, notes)
    else:
        yield from _sequence(text)
        return
    if text.peek():
        what = "object" if wraps else "array"
        raise DomainError(f"Line {text.line:,}: the file goes on behind the end of its {what}.", param="file")


def _array(text: JsonText) -> Iterator[Row | Flaw]:
    text.take(b"[")
    number = 0
    while text.peek() != b"]":
        if number:
            text.take(b",")
            if text.peek() == b"]":
                break
        number += 1
        yield _element(text, number)
    text.take(b"]")


def _sequence(text: JsonText) -> Iterator[Row | Flaw]:
    """Objects one after another, with commas between them or without."""
    number = 0
    while first := text.peek():
        if first == b"," and number:
            text.take(b",")
            continue
        number += 1
        if first == b"{":
            yield _element(text, number)
            continue
        yield Flaw(text.line, "No JSON object begins here: write {…}.")
        text.rest_of_line()


def _wrapped(text: JsonText, notes: list[str]) -> Iterator[Row | Flaw]:
    text.take(b"{")
    used, unused = list[str](), list[str]()
    for name in _names(text):
        if name in DESCRIPTIONS or not text.begins(_OBJECTS):
            unused.append(name)
            text.value()
            continue
        used.append(name)
        if len(used) > 1 and not all(map(split_of, used)):
            names = " and ".join(repr(name[:60]) for name in used)
            message = f"The file has several lists of rows, {names}: keep one, or name them train, validation and test."
            raise DomainError(message, param="file")
        notes.append(f"Rows are read from {name[:60]!r}.")
        split = split_of(name)
        for row in _array(text):
            yield row.within(printable(name), split)
    if unused:
        notes.append(f"Not read: {listed(unused)}.")


def _element(text: JsonText, number: int) -> Row | Flaw:
    line = text.line
    raw = text.value()
    try:
        if raw is None:
            raise RowError("This element has more bytes than a row may have.")
        values, raw = _row_of(decoded(raw), raw)
        return checked(line, values, _BREAKS.sub(b" ", raw) if _BREAKS.search(raw) else raw, f"element {number:,}")
    except RowError as error:
        return Flaw(line, f"element {number:,}: {error}".replace("This line", "This element"))


def _row_of(values: Any, raw: bytes) -> tuple[Any, bytes]:
    """What the dataset viewer wraps, without the wrapper. Raises `RowError` for cells that it cut."""
    if not isinstance(values, dict) or "row_idx" not in values or not VIEWER_KEYS.issuperset(values):
        return values, raw
    if cut := values.get("truncated_cells"):
        message = f"The dataset viewer cut its cells {str(cut)[:100]}: download the data set's Parquet files instead."
        raise RowError(message)
    return values.get("row"), bytes(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("row", b"null"))
