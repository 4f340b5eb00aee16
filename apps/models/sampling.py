"""Bounds on what a request may ask of an engine: checked before it gets there, since one request can take it down.

An unbounded `n` exhausts memory (CVE-2026-34756), and a huge grammar stalls the whole engine while it compiles. Names
that the engine does not have are refused, since it passes over them in silence. All other values are the engine's to
judge: it answers 4xx, which becomes that line's error.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from django.conf import settings
from msgspec import UNSET, Raw, UnsetType

from apps.core.text import is_storable
from apps.models.requests import catalog
from apps.models.requests.openai import Contradiction, modernise
from apps.models.requests.rules import BOUNDED, SEEN, Rules

BOUNDS = dict.fromkeys(BOUNDED, "REQUEST_MAX_TOKENS") | {
    "n": "REQUEST_MAX_N",
    "best_of": "REQUEST_MAX_N",
    "logprobs": "REQUEST_MAX_LOGPROBS",
    "top_logprobs": "REQUEST_MAX_LOGPROBS",
    "prompt_logprobs": "REQUEST_MAX_LOGPROBS",
}
"""Field -> the setting that bounds it from above; 0 bounds it from below."""
MODEL, STREAM, INPUT, STREAM_OPTIONS, PRIORITY, FIRST_BOUNDED = map(
    SEEN.index, ("model", "stream", "input", "stream_options", "priority", "stop")
)
NONE_BOUNDED = (UNSET,) * len(SEEN[FIRST_BOUNDED:])
GRAMMARS = ("response_format", "structured_outputs", "text")
NO_STREAM = (UNSET, None, False)
TRUE = (1, "1", "on", "t", "true", "y", "yes")  # what the engine takes for true …
FALSE = (0, "0", "off", "f", "false", "n", "no")  # … and for false


class Refused(ValueError):
    """The message says what to change."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field

    @property
    def param(self) -> str:
        """The field's path in a batch line."""
        return f"body.{self.field}" if self.field else "body"

    @property
    def of_envelope(self) -> bool:
        """Whether a batch cannot run at all with such a line, since nothing is known to ask."""
        return self.code == "invalid_json" or self.field in (None, "model")


class Checked(msgspec.Struct, frozen=True):
    model: str
    inputs: int
    """Texts to embed; 0 for anything but embeddings."""
    body: bytes
    """What to send: as it came, unless a legacy name had to be given its modern form."""
    ignored: tuple[str, ...] = ()
    """A sentence for each name that the engine will pass over, where settings let them through."""


class Asked(msgspec.Struct, frozen=True):
    model: str
    stream: bool
    include_usage: bool
    """Whether the stream shall end with its usage."""
    body: bytes
    ignored: tuple[str, ...] = ()


class _Grammars(msgspec.Struct):
    response_format: Raw | UnsetType = UNSET
    structured_outputs: Raw | UnsetType = UNSET
    text: Raw | UnsetType = UNSET


class _Read(msgspec.Struct):
    """A body that was read, either way: the values of rules.SEEN, in that order; UNSET where there is none."""

    values: tuple[Any, ...]
    body: bytes
    ignored: tuple[str, ...] = ()


_decode_grammars = msgspec.json.Decoder(_Grammars).decode
_decode_parts = msgspec.json.Decoder(dict[str, Raw]).decode


def check(body: bytes, endpoint: str) -> Checked:
    """The model that a batch's request asks, if everything is within bounds. Raises `Refused`."""
    read, model = _bounded(body, endpoint)
    if read.values[STREAM] not in NO_STREAM:
        message = "Requests of a batch cannot stream: leave stream out."
        raise Refused("streaming_unsupported", message, "stream")
    inputs = _count_inputs(read.values[INPUT]) if endpoint == "/v1/embeddings" else 0
    return Checked(model, inputs, read.body, read.ignored)


def model_of(body: bytes) -> str:
    """The model that a refused request names. Raises `Refused` where there is none."""
    parsed = _as_engine(body)
    return _model(parsed.get("model", UNSET) if isinstance(parsed, dict) else UNSET)


def check_interactive(body: bytes, endpoint: str) -> Asked:
    """What a request of somebody who waits asks for, if everything is within bounds. Raises `Refused`."""
    read, model = _bounded(body, endpoint)
    stream, options = read.values[STREAM], read.values[STREAM_OPTIONS]
    return Asked(model, stream is True, _wants_usage(options), read.body, read.ignored)


def _wants_usage(options: Any) -> bool:
    """What is no clear no leaves the request as it is, for the engine to judge."""
    if options is UNSET or options is None:
        return False
    if isinstance(options, dict):
        usage = options.get("include_usage")
    elif isinstance(options, msgspec.Struct):
        usage = getattr(options, "include_usage", None)
    else:
        return True
    return not (usage is UNSET or usage is None or usage in FALSE)


def _bounded(body: bytes, endpoint: str) -> tuple[_Read, str]:
    """The body and its model."""
    rules = catalog.rules(endpoint)
    try:
        read = _Read(rules.seen(rules.decode(body)), body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        read = _read_again(body, endpoint, rules)
    model = _model(read.values[MODEL])
    if read.values[PRIORITY] is not UNSET:
        raise Refused("invalid_request", "A request has no priority of its own: set it on a batch.", "priority")
    if (bounded := read.values[FIRST_BOUNDED:]) != NONE_BOUNDED:
        for value, check_value in zip(bounded, CHECKS, strict=True):
            if value is not UNSET and value is not None:
                check_value(value)
    if len(read.body) > settings.REQUEST_MAX_GRAMMAR_BYTES:
        _check_grammars(read.body)
    return read, model


def _read_again(body: bytes, endpoint: str, rules: Rules) -> _Read:
    """With patience: an unknown name, a legacy one, or a value in another type than its field's."""
    parsed = _as_engine(body)
    if not isinstance(parsed, dict):
        raise Refused("invalid_request", "The request's body must be a JSON object.")
    _model(parsed.get("model", UNSET))
    try:
        changed = modernise(endpoint, parsed, rules.knows)
    except Contradiction as error:
        raise Refused("invalid_request", str(error), error.field) from error
    unknown = list(rules.unknown(parsed))
    if unknown and settings.REQUEST_UNKNOWN_FIELDS != "warn":
        raise Refused("unknown_parameter", unknown[0].sentence, unknown[0].path)
    if changed:
        body = _rewritten(body, parsed, changed)
    values = tuple(_lax(name, parsed[name]) if name in parsed else UNSET for name in SEEN)
    return _Read(values, body, tuple(one.sentence for one in unknown))


def _rewritten(body: bytes, parsed: dict[str, Any], changed: set[str]) -> bytes:
    """The body with what was changed in `parsed`; the rest stays as it came, to the byte."""
    try:
        parts = {name: raw for name, raw in _decode_parts(body).items() if name in parsed}
        return msgspec.json.encode({**parts, **{name: parsed[name] for name in changed if name in parsed}})
    except (ValueError, RecursionError):  # what only the engine's parser reads
        return json.dumps(parsed).encode()


def _lax(name: str, value: Any) -> Any:
    """As the engine reads it: "2" and 2.0 are whole numbers. What cannot be read is left to the engine to refuse."""
    if name == "stream":
        return _true(value)
    if name in BOUNDS and isinstance(value, str | float):
        try:
            return int(float(value))
        except (ValueError, OverflowError):
            return None
    return value


def _true(value: Any) -> bool:
    return (value.lower() if isinstance(value, str) else value) in TRUE


def _model(name: Any) -> str:
    if name is UNSET or not name:
        raise Refused("missing_required_parameter", "The request names no model.", "model")
    if not isinstance(name, str):
        raise Refused("invalid_request", "model must be a string.", "model")
    if not is_storable(name):
        raise Refused("invalid_request", "model must not hold NUL characters or lone surrogates.", "model")
    return name


def _check_bound(name: str, setting: str, value: Any) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= getattr(settings, setting):
        message = f"{name} must be between 0 and {getattr(settings, setting):,}, not {value}."
        raise Refused("invalid_request", message, name)


def _check_stop(stop: Any) -> None:
    texts = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    most, longest = settings.REQUEST_MAX_STOP, settings.REQUEST_MAX_STOP_CHARACTERS
    if len(texts) > most or any(isinstance(text, str) and len(text) > longest for text in texts):
        message = f"stop may hold at most {most} strings of {longest:,} characters."
        raise Refused("invalid_request", message, "stop")


def _check_logit_bias(bias: Any) -> None:
    most = settings.REQUEST_MAX_LOGIT_BIAS
    if isinstance(bias, dict) and len(bias) > most:
        raise Refused("invalid_request", f"logit_bias may hold at most {most:,} tokens.", "logit_bias")


CHECKS: list[Callable[[Any], None]] = [
    _check_stop, _check_logit_bias, *(partial(_check_bound, name, BOUNDS[name]) for name in BOUNDED)
]  # fmt: skip


def _check_grammars(body: bytes) -> None:
    parsed, most = _decode_grammars(body), settings.REQUEST_MAX_GRAMMAR_BYTES
    for name in GRAMMARS:
        if (raw := getattr(parsed, name)) is not UNSET and len(bytes(raw)) > most:
            raise Refused("invalid_request", f"{name} may have at most {most:,} bytes.", name)


def _count_inputs(inputs: Any) -> int:
    """A text or a list of token ids is one input; a list of those is as many."""
    if inputs is UNSET:
        return 0  # the engine's to refuse, or a conversation
    if isinstance(inputs, Raw):
        inputs = msgspec.json.decode(inputs)
    return len(inputs) if isinstance(inputs, list) and not all(isinstance(item, int) for item in inputs) else 1


def _as_engine(body: bytes) -> Any:
    """The value, by the parser that the engine uses: it takes NaN, lone surrogates, and numbers of any size."""
    try:
        return json.loads(body)
    except RecursionError as error:
        raise Refused("invalid_json", "The request's body is nested too deeply.") from error
    except ValueError as error:
        raise Refused("invalid_json", f"The request's body is not valid JSON: {error}.") from error
