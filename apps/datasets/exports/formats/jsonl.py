"""What the formats of one JSON object a line share."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from apps.core.json_lines import escape_separators_in_bytes
from apps.datasets.exports.formats.format import Row, Setting, Unfit

PIECE = 256 * 1024  # bytes that are gathered before they are passed on

_json = msgspec.json.Encoder()


def lines(shape: Callable[[Row], dict[str, Any]]) -> Callable[[Iterable[Row], Setting], Iterator[bytes]]:
    """A `Format.write` that writes what `shape` makes of a row; it may raise `Unfit`."""

    def write(rows: Iterable[Row], setting: Setting) -> Iterator[bytes]:
        piece = bytearray()
        for row in rows:
            try:
                piece += _json.encode(shape(row)) + b"\n"
            except Unfit:
                setting.leave_out(row)
            if len(piece) >= PIECE:
                yield escape_separators_in_bytes(bytes(piece))
                piece.clear()
        yield escape_separators_in_bytes(bytes(piece))

    return write


def reply(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
