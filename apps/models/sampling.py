"""Bounds on what a request may ask of an engine: checked before it gets there, since one request can take it down.

An unbounded `n` exhausts memory (CVE-2026-34756), and a huge grammar stalls the whole engine while it compiles.
All other fields are the engine's to judge: it answers 4xx, which becomes that line's error.
"""

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

MAX_N = 8
MAX_LOGPROBS = 20
MAX_TOKENS = 1_000_000
MAX_STOP = 16
MAX_STOP_CHARACTERS = 1_000
MAX_LOGIT_BIAS = 1_024
MAX_GRAMMAR_BYTES = 64 * 1024

CAPS = {
    "n": MAX_N,
    "best_of": MAX_N,
    "logprobs": MAX_LOGPROBS,
    "top_logprobs": MAX_LOGPROBS,
    "prompt_logprobs": MAX_LOGPROBS,
    "max_tokens": MAX_TOKENS,
    "max_completion_tokens": MAX_TOKENS,
    "max_output_tokens": MAX_TOKENS,
    "min_tokens": MAX_TOKENS,
}
GRAMMARS = (
    "response_format", "structured_outputs", "text", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip


class Refused(ValueError):
    """The message says what to change."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field

    @property
    def param(self) -> str:
        """The field's path in a batch line."""
        return f"body.{self.field}" if self.field else "body"


@dataclass(frozen=True, slots=True)
class Checked:
    model: str
    inputs: int
    """Texts to embed; 0 for anything but embeddings."""


@dataclass(frozen=True, slots=True)
class Asked:
    model: str
    stream: bool
    include_usage: bool
    """Whether the stream shall end with its usage."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str | UnsetType = UNSET
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    best_of: int | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    min_tokens: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    priority: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    response_format: Raw | UnsetType = UNSET
    structured_outputs: Raw | UnsetType = UNSET
    text: Raw | UnsetType = UNSET
    guided_json: Raw | UnsetType = UNSET
    guided_regex: Raw | UnsetType = UNSET
    guided_choice: Raw | UnsetType = UNSET
    guided_grammar: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Body).decode


def check(body: bytes, endpoint: str) -> Checked:
    """The model that a batch's request asks, if everything is within bounds. Raises `Refused`."""
    parsed, model = _bounded(body)
    if parsed.stream:
        raise Refused("streaming_unsupported", "Requests of a batch cannot stream: leave stream out.", "stream")
    return Checked(model, _count_inputs(parsed.input) if endpoint == "/v1/embeddings" else 0)


def check_interactive(body: bytes) -> Asked:
    """What a request of somebody who waits asks for, if everything is within bounds. Raises `Refused`."""
    try:
        parsed, model = _bounded(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("invalid_json", f"The request's body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise Refused("invalid_json", "The request's body is nested too deeply.") from error
    options = parsed.stream_options
    return Asked(model, bool(parsed.stream), bool(options and options.include_usage))


def _bounded(body: bytes) -> tuple[_Body, str]:
    """The body and its model."""
    try:
        parsed = _decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from error
    if parsed.model is UNSET or not parsed.model:
        raise Refused("missing_required_parameter", "The request names no model.", "model")
    if parsed.priority is not UNSET:
        raise Refused("invalid_request", "A request has no priority of its own: set it on a batch.", "priority")
    _check_caps(parsed)
    _check_lists(parsed)
    for name in GRAMMARS:
        if (raw := getattr(parsed, name)) is not UNSET and len(bytes(raw)) > MAX_GRAMMAR_BYTES:
            raise Refused("invalid_request", f"{name} may have at most {MAX_GRAMMAR_BYTES:,} bytes.", name)
    return parsed, parsed.model


def _check_caps(body: _Body) -> None:
    for name, cap in CAPS.items():
        value = getattr(body, name)
        if value is not None and not isinstance(value, bool) and not 0 <= value <= cap:
            raise Refused("invalid_request", f"{name} must be between 0 and {cap:,}, not {value}.", name)


def _check_lists(body: _Body) -> None:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stop) > MAX_STOP or any(len(text) > MAX_STOP_CHARACTERS for text in stop):
        message = f"stop may hold at most {MAX_STOP} strings of {MAX_STOP_CHARACTERS:,} characters."
        raise Refused("invalid_request", message, "stop")
    if body.logit_bias and len(body.logit_bias) > MAX_LOGIT_BIAS:
        raise Refused("invalid_request", f"logit_bias may hold at most {MAX_LOGIT_BIAS:,} tokens.", "logit_bias")


def _count_inputs(raw: Raw | UnsetType) -> int:
    """A text or a list of token ids is one input; a list of those is as many."""
    if raw is UNSET:
        raise Refused("missing_required_parameter", "The request has no input to embed.", "input")
    inputs = msgspec.json.decode(raw)
    return len(inputs) if isinstance(inputs, list) and not all(isinstance(item, int) for item in inputs) else 1


def _wrong_type(error: msgspec.ValidationError) -> Refused:
    message = str(error)
    field = message.rsplit("`$.", 1)[1].rstrip("`") if "`$." in message else None
    return Refused("invalid_request", f"The request has a wrong type: {message}.", field)
