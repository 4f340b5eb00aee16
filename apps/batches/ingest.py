"""Reads a batch's input file: bytes in, validated lines and errors out. It knows no model and no database.

What makes a line a line (JSON, custom_id, method, url, one model) is judged for the batch: an error there fails it.
What the body asks for is judged for the line, as OpenAI's endpoint would: `Line.refusal` is its answer, the others run.

Memory holds one block and one line, whatever the file's size; at most `MAX_ERRORS` errors are kept. Uniqueness of
`custom_id` is left to the database, which can sort a million of them without memory of ours.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import msgspec

from apps.core.text import is_storable
from apps.models import sampling

MAX_ERRORS = 100
BLOCK = 1024 * 1024  # bytes

WRONG_ENCODINGS = {
    b"\xff\xfe": "The file is UTF-16: save it as UTF-8.",
    b"\xfe\xff": "The file is UTF-16: save it as UTF-8.",
    b"\xef\xbb\xbf": "The file starts with a byte order mark: save it as UTF-8 without one.",
    b"\x1f\x8b": "The file is compressed with gzip: upload the plain .jsonl.",
    b"PK": "The file is a zip archive: upload the plain .jsonl.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    requests: int
    line_bytes: int
    embedding_inputs: int
    custom_id: int
    """Characters."""


@dataclass(frozen=True, slots=True)
class LineError:
    """One entry of a failed batch's `errors.data`."""

    code: str
    message: str
    line: int | None = None
    """Counts from 1."""
    param: str | None = None


class Line(msgspec.Struct, frozen=True):
    number: int
    custom_id: str
    body: str
    """JSON, as it came, unless legacy names were given their modern form."""
    refusal: sampling.Refused | None = None
    """Why it must not be sent."""


class Rejected(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class _Input(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


_decode_input = msgspec.json.Decoder(_Input).decode


@dataclass(slots=True)
class Reader:
    """Iterate over `lines()`; afterwards `errors`, `model` and `count` are known."""

    file: IO[bytes]
    endpoint: str
    limits: Limits
    errors: list[LineError] = field(default_factory=list)
    model: str = ""
    """The model that the first valid line names; all others must name it too."""
    model_line: int = 0
    count: int = 0
    inputs: int = 0
    ignored: list[LineError] = field(default_factory=list)
    """Names that the engine will pass over; at most `MAX_ERRORS`."""

    def lines(self) -> Iterator[Line]:
        """The valid lines. A batch with an error runs none of them, but only together do they show every duplicate."""
        for number, raw in _split(self.file, self.limits.line_bytes):
            if len(self.errors) >= MAX_ERRORS:
                return
            if raw.isspace():
                continue
            self.count += 1
            try:
                line = self._line(number, raw)
            except Rejected as error:
                self.errors.append(LineError(error.code, str(error), number, error.param))
                if error.code in ("too_many_tasks", "invalid_encoding"):
                    return
            else:
                yield line
        if self.count == 0:
            self.errors.append(LineError("empty_file", "The file holds no request: write one JSON object per line."))

    def _line(self, number: int, raw: bytes) -> Line:
        if self.count > self.limits.requests:
            message = f"The file holds more than {self.limits.requests:,} requests: split it into several batches."
            raise Rejected("too_many_tasks", message)
        parsed, body, text = _parse(number, raw, self.limits.line_bytes)
        if parsed.method != "POST":
            raise Rejected("invalid_request", f"method must be POST, not {parsed.method[:20]!r}.", "method")
        if parsed.url != self.endpoint:
            message = f"URL provided for this request ({parsed.url[:60]!r}) does not match the batch endpoint."
            raise Rejected("invalid_url", message, "url")
        if not 0 < (length := len(parsed.custom_id)) <= self.limits.custom_id:
            message = f"custom_id must have 1 to {self.limits.custom_id:,} characters; this one has {length:,}."
            raise Rejected("invalid_request", message, "custom_id")
        if not is_storable(parsed.custom_id):
            raise Rejected("invalid_request", "custom_id must not hold NUL or lone surrogates.", "custom_id")
        return self._judged(number, parsed.custom_id, body, text)

    def _judged(self, number: int, custom_id: str, body: bytes, text: str) -> Line:
        try:
            checked = sampling.check(body, self.endpoint)
        except sampling.Refused as refusal:
            self._check_model(number, _model_of(body, refusal))
            return Line(number, custom_id, text, refusal)
        self._check_model(number, checked.model)
        self.inputs += checked.inputs
        if self.inputs > self.limits.embedding_inputs:
            message = f"The batch holds more than {self.limits.embedding_inputs:,} embedding inputs: split it."
            raise Rejected("too_many_tasks", message, "body.input")
        for sentence in checked.ignored[: MAX_ERRORS - len(self.ignored)]:
            self.ignored.append(LineError("unknown_parameter", sentence, number, "body"))
        return Line(number, custom_id, text if checked.body is body else checked.body.decode())

    def _check_model(self, number: int, model: str) -> None:
        if not self.model:
            self.model, self.model_line = model, number
        if model != self.model:
            message = f"All requests of a batch must name the same model; the first names {self.model!r}."
            raise Rejected("mismatched_model", message, "body.model")


def _model_of(body: bytes, refusal: sampling.Refused) -> str:
    """The model that a refused body names. Raises `Rejected` where that is what is wrong."""
    try:
        if not refusal.of_envelope:
            return sampling.model_of(body)
    except sampling.Refused as error:
        refusal = error
    raise Rejected(refusal.code, str(refusal), refusal.param) from refusal


def _parse(number: int, raw: bytes, limit: int) -> tuple[_Input, bytes, str]:
    """The line's four fields, and the body, as text too."""
    if number == 1:
        for mark, message in WRONG_ENCODINGS.items():
            if raw.startswith(mark):
                raise Rejected("invalid_encoding", message)
    if len(raw) > limit and len(raw.rstrip(b"\r\n")) > limit:
        raise Rejected("line_too_long", f"This line has more than {limit:,} bytes, which is the limit.")
    try:
        parsed = _decode_input(raw)
        body = bytes(parsed.body)
        return parsed, body, body.decode()
    except msgspec.ValidationError as error:
        raise _wrong_shape(error) from error
    except UnicodeDecodeError as error:
        raise Rejected("invalid_json_line", "This line is not valid UTF-8.") from error
    except RecursionError as error:
        raise Rejected("invalid_json_line", "This line is nested too deeply.") from error
    except msgspec.DecodeError as error:
        return _parse_as_engine(raw, error)


def _parse_as_engine(raw: bytes, problem: Exception) -> tuple[_Input, bytes, str]:
    """The engine's parser takes more than ours: NaN, lone surrogates, numbers of any size."""
    try:
        parsed = json.loads(raw)
        text = json.dumps(parsed.pop("body"))
        body = text.encode()
        return msgspec.convert({**parsed, "body": msgspec.Raw(body)}, _Input), body, text
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        message = f"This line is not parseable as valid JSON: {problem}."
        raise Rejected("invalid_json_line", message) from problem


def _wrong_shape(error: msgspec.ValidationError) -> Rejected:
    message = str(error)
    if "missing required field" in message:
        name = message.split("`")[1]
        return Rejected("missing_required_parameter", f"The line lacks {name!r}.", name)
    param = message.rsplit("`$.", 1)[1].rstrip("`") if "`$." in message else None
    return Rejected("invalid_request", f"The line has a wrong shape: {message}.", param)


def _split(file: IO[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their ends. One beyond `limit` is passed over in blocks, and given as its begin."""
    number = 0
    while raw := file.readline(limit + 2):
        number += 1
        if not raw.endswith(b"\n") and len(raw) > limit + 1:
            while (rest := file.readline(BLOCK)) and not rest.endswith(b"\n"):
                pass
        yield number, raw
