"""Lines of batches: a prompt and parameters become JSON, lines become files of what a batch may hold.

What examples hold and an engine does not take is translated here, and nowhere else: weights of messages, and what a
tool's function has beside `FUNCTION_NAMES`. It knows no run and no judge. A line is in memory one at a time; a file is
on disk, and is stored by a rename.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import mkstemp
from typing import Any, NamedTuple

import msgspec
from django.conf import settings
from django.core.files.base import File as Upload

from apps.core.json_lines import escape_separators_in_bytes

URL = "/v1/chat/completions"

FUNCTION_NAMES = ("name", "description", "parameters", "strict")
TEMPLATE = "chat_template_kwargs"
BESIDE = ("tools", "parallel_tool_calls", TEMPLATE)
"""What a request takes of `Example.request`."""
WEIGHT = '"weight"'  # as a name in JSON; within a text its quotes would be escaped
TAILS = 256  # kept; most examples of a dataset have the same tools

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
        """`parameters` as `parameters.check` returns them: `system` replaces a prompt's own system message, and
        `tool_choice` is sent with tools only."""
        self._system: str | None = parameters.get("system")
        self._parameters = {name: value for name, value in parameters.items() if name not in ("system", "tool_choice")}
        self._tool_choice = parameters.get("tool_choice")
        if samples > 1:
            self._parameters = {"n": samples, **self._parameters}
        self._head = b'{"model":%s,"messages":' % _json(model)
        self._tail = lru_cache(TAILS)(self._make_tail)

    def body(self, messages: str, request: str = "") -> bytes:
        """`messages` is JSON, whose line ends can only be between its tokens; `request` is `Example.request`."""
        plain = self._system is None and WEIGHT not in messages
        text = messages.encode() if plain else self._translated(messages)
        return self._head + text.replace(b"\n", b" ") + self._tail(request)

    def _translated(self, messages: str) -> bytes:
        turns = _decoded(messages)
        if self._system is not None:
            turns = [turn for turn in turns if turn.get("role") not in ("system", "developer")]
            turns = [{"role": "system", "content": self._system}, *turns]
        return _encoded([{name: value for name, value in turn.items() if name != "weight"} for turn in turns])

    def _make_tail(self, request: str) -> bytes:
        """What follows the messages. Where both say something, the run's parameters win over the example's."""
        given: dict[str, Any] = _decoded(request) if request else {}
        beside = {name: given[name] for name in BESIDE if name in given}
        if "tools" in beside:
            beside["tools"] = [_tool(tool) for tool in beside["tools"]]
            if self._tool_choice is not None:
                beside["tool_choice"] = self._tool_choice
        beside |= self._parameters
        if TEMPLATE in given and TEMPLATE in self._parameters:
            beside[TEMPLATE] = given[TEMPLATE] | self._parameters[TEMPLATE]
        tail = _encoded(beside)[1:-1]
        return b",%s}" % tail if tail else b"}"


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """With what the engine's model of a tool has: it passes over anything else in silence, and the API refuses it."""
    function = {name: value for name, value in tool["function"].items() if name in FUNCTION_NAMES}
    return {"type": "function", "function": function}


def _decoded(text: str) -> Any:
    """JSON that may hold half of a surrogate pair, as an escape."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


def _encoded(value: Any) -> bytes:
    try:
        return _json(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()


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
