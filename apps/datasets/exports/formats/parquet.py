"""Parquet: the columns that TRL and `datasets` read, and beside them what an example is known by.

Messages have a role and a text each; tools are JSON. No column depends on what the rows hold, so that any two files of
the same kind can be read together.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import parquet

from apps.datasets.exports.formats.format import Format, Row, Setting, Unfit
from apps.datasets.exports.formats.jsonl import reply
from apps.datasets.exports.formats.plain import ROLES, text_of

GROUP_ROWS = 5_000
GROUP_CHARACTERS = 16 * 1024**2  # of messages and answers; a group is in memory as a whole

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
KNOWN_BY = [
    ("tools", pa.string()), ("example", pa.int64()), ("key", pa.string()),
    ("tags", pa.list_(pa.string())), ("source", pa.string()),
]  # fmt: skip
ANSWERS = pa.schema([("messages", MESSAGES), *KNOWN_BY])
PAIRS = pa.schema([("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES), *KNOWN_BY])


class Table:
    """A Parquet file that grows by rows. What was written so far is taken out by `taken`."""

    def __init__(self, *, pairs: bool) -> None:
        self._schema, self._pairs = PAIRS if pairs else ANSWERS, pairs
        self._buffer = io.BytesIO()
        self._sink = pa.PythonFile(_Counting(self._buffer), mode="w")
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._characters = 0

    def add(self, row: Row) -> None:
        """Raises `Unfit`; then nothing was added."""
        self._rows.append(_columns(row, self._pairs))
        self._characters += sum(len(str(message.get("content"))) for message in row.messages)
        self._characters += len(row.answer) + len(row.rejected)
        if len(self._rows) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def taken(self) -> bytes:
        content = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return content

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), row_group_size=GROUP_ROWS)
        self._rows, self._characters = [], 0


class _Counting:
    """A file that only grows, and remembers how far it has come although its beginning was taken away."""

    closed = False

    def __init__(self, target: io.BytesIO) -> None:
        self._target, self._at = target, 0

    def write(self, content: bytes) -> int:
        written = self._target.write(content)
        self._at += written
        return written

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing waits."""

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _columns(row: Row, pairs: bool) -> dict[str, Any]:
    known = {
        "tools": msgspec.json.encode(row.tools).decode() if row.tools else None,
        "example": row.number,
        "key": row.key,
        "tags": row.tags,
        "source": row.source,
    }
    asked = [_message(message) for message in row.messages]
    if pairs:
        return {"prompt": asked, "chosen": [reply(row.answer)], "rejected": [reply(row.rejected)], **known}
    return {"messages": [*asked, reply(row.answer)], **known}


def _message(message: dict[str, Any]) -> dict[str, str]:
    if message.get("role") not in ROLES or message.get("tool_calls") or message.get("function_call"):
        raise Unfit
    return {"role": message["role"], "content": text_of(message.get("content"))}


def _write(rows: Iterable[Row], setting: Setting) -> Iterator[bytes]:
    table = Table(pairs=setting.pairs)
    for row in rows:
        try:
            table.add(row)
        except Unfit:
            setting.leave_out(row)
        yield table.taken()
    table.close()
    yield table.taken()


FORMAT = Format(
    name="parquet",
    title="Parquet",
    what_for="One compact file for pandas, DuckDB, Spark and datasets; answers or pairs.",
    suffix=".parquet",
    purpose="user_data",
    answers=True,
    pairs=True,
    write=_write,
)
