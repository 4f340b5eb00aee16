"""Parquet: the columns that TRL and `datasets` read, and beside them what an example is known by.

Messages have a role and a text each, and what else the rows of the file use; tools are JSON. No type depends on what
the rows hold.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import parquet

from apps.conversations.codecs import CannotHold, holding, openai_chat, preference, unpaired
from apps.conversations.conversation import Message, encode
from apps.datasets.exports.formats.format import Format, Kind, Row, Setting

GROUP_ROWS = 5_000
GROUP_CHARACTERS = 16 * 1024**2  # of messages and answers; a group is in memory as a whole

TEXT = pa.string()
CALL = pa.struct([
    ("id", TEXT), ("type", TEXT), ("function", pa.struct([("name", TEXT), ("arguments", TEXT)])),
])  # fmt: skip
OF_MESSAGES = {
    "reasoning_content": TEXT, "tool_calls": pa.list_(CALL), "tool_call_id": TEXT, "name": TEXT, "weight": pa.int64(),
}  # fmt: skip
"""Fields that messages have where some row of the file uses them."""
OF_ROWS = {"parallel_tool_calls": pa.bool_(), "chat_template_kwargs": TEXT}
"""Columns that the file has where some row uses them."""
KNOWN_BY = [
    ("tools", TEXT), ("example", pa.int64()), ("key", TEXT), ("tags", pa.list_(TEXT)), ("source", TEXT),
]  # fmt: skip
WRITE = {
    Kind.ANSWERS: openai_chat.CODEC.write,
    Kind.PAIRS: preference.CODEC.write,
    Kind.LABELS: unpaired.CODEC.write,
}


def schema_of(kind: Kind, uses: frozenset[str]) -> pa.Schema:
    more = [(name, type_) for name, type_ in OF_MESSAGES.items() if name in uses]
    messages = pa.list_(pa.struct([("role", TEXT), ("content", TEXT), *more]))
    names = {
        Kind.ANSWERS: ["messages"],
        Kind.PAIRS: ["prompt", "chosen", "rejected"],
        Kind.LABELS: ["prompt", "completion"],
    }[kind]
    label = [("label", pa.bool_())] if kind == Kind.LABELS else []
    beside = [(name, type_) for name, type_ in OF_ROWS.items() if name in uses]
    return pa.schema([*((name, messages) for name in names), *label, *beside, *KNOWN_BY])


class Table:
    """A Parquet file that grows by rows. What was written so far is taken out by `taken`."""

    def __init__(self, setting: Setting) -> None:
        self._schema, self._write = schema_of(setting.kind, setting.uses), WRITE[setting.kind]
        self._fields = frozenset({"role", "content", *(setting.uses & OF_MESSAGES.keys())})
        self._buffer = io.BytesIO()
        self._sink = pa.PythonFile(_Counting(self._buffer), mode="w")
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._characters = 0

    def add(self, row: Row) -> None:
        """Raises `CannotHold`; then nothing was added."""
        conversation = row.held()
        written = self._write(conversation)
        columns = {name: self._column(name, value) for name, value in written.items()}
        self._rows.append({
            **columns, "example": row.number, "key": conversation.key, "tags": conversation.tags, "source": row.source,
        })  # fmt: skip
        sides = (conversation.messages, conversation.chosen, conversation.rejected)
        self._characters += sum(len(message.text) for side in sides for message in side)
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

    def _column(self, name: str, value: Any) -> Any:
        if name in ("tools", "chat_template_kwargs"):
            return encode(value).decode()
        return [self._message(message) for message in value] if isinstance(value, tuple) else value

    def _message(self, message: Message) -> dict[str, Any]:
        """Every field has its place in the schema, which knows what the rows use."""
        made: dict[str, Any] = msgspec.to_builtins(message)
        if isinstance(message.content, list):
            made["content"] = holding.content(message)
        if not made.keys() <= self._fields:
            raise CannotHold(", ".join(sorted(made.keys() - self._fields)))
        return made

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


def _write(rows: Iterable[Row], setting: Setting) -> Iterator[bytes]:
    table = Table(setting)
    for row in rows:
        try:
            table.add(row)
        except CannotHold as error:
            setting.leave_out(row, str(error))
        yield table.taken()
    table.close()
    yield table.taken()


FORMAT = Format(
    name="parquet",
    title="Parquet",
    what_for="One compact file for pandas, DuckDB, Spark and datasets; answers, pairs or thumbs, with calls of tools.",
    suffix=".parquet",
    purpose="user_data",
    kinds=frozenset(Kind),
    write=_write,
)
