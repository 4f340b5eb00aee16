"""Lines of batches: a prompt and parameters become JSON, lines become files of what a batch may hold.

It knows no run and no judge. A line is in memory one at a time; a file is on disk, and is stored by a rename.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Any, NamedTuple

import msgspec
from django.conf import settings
from django.core.files.base import File as Upload

from apps.core.json_lines import escape_separators_in_bytes

URL = "/v1/chat/completions"

_json = msgspec.json.encode


class Line(NamedTuple):
    number: int
    """The custom_id."""
    content: bytes
    """With its line end."""


class Piece(Upload[bytes]):
    """The input of one batch, as `batches.services.create_file` takes it: complete on disk, its hash known."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._writer = os.fdopen(descriptor, "wb")
        super().__init__(self._writer, "requests.jsonl")
        self.path = Path(path)
        self.size, self.lines, self.first, self.last = 0, 0, 0, 0
        self._digest = hashlib.sha256()

    def has_room(self, line: Line) -> bool:
        most = min(settings.BATCH_FILE_MAX_BYTES, settings.FILE_MAX_BYTES)
        return self.lines < settings.BATCH_MAX_REQUESTS and self.size + len(line.content) <= most

    def add(self, line: Line) -> None:
        """Lines come in the order of their numbers."""
        self._writer.write(line.content)
        self._digest.update(line.content)
        self.size += len(line.content)
        self.lines += 1
        self.first, self.last = self.first or line.number, line.number

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def temporary_file_path(self) -> str:
        return str(self.path)


def line(number: int, body: bytes) -> Line:
    """`body` is a JSON object without a line feed."""
    text = b'{"custom_id":"%d","method":"POST","url":"%s","body":%s}\n' % (number, URL.encode(), body)
    return Line(number, escape_separators_in_bytes(text))


class Prompt:
    """Makes bodies for one model: what they share is written once."""

    def __init__(self, model: str, parameters: Mapping[str, Any], samples: int = 1) -> None:
        """`parameters` as `parameters.check` returns them: `system` replaces a prompt's own system message."""
        self._system: str | None = parameters.get("system")
        shared = {name: value for name, value in parameters.items() if name != "system"}
        tail = _json({"n": samples, **shared} if samples > 1 else shared)[1:-1]
        self._head = b'{"model":%s,"messages":' % _json(model)
        self._tail = b",%s}" % tail if tail else b"}"

    def body(self, messages: str) -> bytes:
        """`messages` is JSON, whose line ends can only be between its tokens."""
        text = messages.encode() if self._system is None else self._with_system(messages)
        return self._head + text.replace(b"\n", b" ") + self._tail

    def _with_system(self, messages: str) -> bytes:
        turns = [turn for turn in msgspec.json.decode(messages) if turn.get("role") not in ("system", "developer")]
        return _json([{"role": "system", "content": self._system}, *turns])


def pieces(lines: Iterable[Line]) -> Iterator[Piece]:
    """As many files as the limits of a batch make necessary; each is gone from the disk once the next is asked for."""
    piece: Piece | None = None
    try:
        for each in lines:
            if piece is not None and not piece.has_room(each):
                yield _closed(piece)
                _discard(piece)
                piece = None
            piece = piece or _new_piece()
            piece.add(each)
        if piece is not None:
            yield _closed(piece)
    finally:
        _discard(piece)


def _new_piece() -> Piece:
    """Beside the storage, so that storing it is a rename."""
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
    return Piece(*mkstemp(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="requests."))


def _closed(piece: Piece) -> Piece:
    piece.close()
    return piece


def _discard(piece: Piece | None) -> None:
    if piece is not None:
        piece.close()
        piece.path.unlink(missing_ok=True)
