"""What a chat completion says: choices with their texts. It runs for every answer, and trusts none of them."""

from dataclasses import dataclass
from typing import Any

import msgspec

from apps.batches.texts import answer_text, parsed

ERROR_CHARACTERS = 5_000
FINISH_CHARACTERS = 30
UNREADABLE = "The engine's answer is no chat completion."


class Unreadable(ValueError):
    """It is not a chat completion that has choices."""


@dataclass(frozen=True, slots=True)
class Choice:
    text: str
    finish_reason: str
    output_tokens: int = 0


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    index: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Completion).decode


def read(body: str, output_tokens: int) -> list[Choice]:
    """The choices in their order; the tokens are those of all, and are shared by length. Raises `Unreadable`."""
    try:
        choices = sorted(_decode(body).choices, key=lambda choice: choice.index)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        choices = _slowly(body)
    if not choices:
        raise Unreadable(UNREADABLE)
    texts = [_text(choice.message) for choice in choices]
    shares = share(output_tokens, [len(text) for text in texts])
    return [
        Choice(text, clean(choice.finish_reason or "", FINISH_CHARACTERS), tokens)
        for text, choice, tokens in zip(texts, choices, shares, strict=True)
    ]


def share(total: int, weights: list[int]) -> list[int]:
    """Whole numbers whose sum is `total`, in proportion to the weights."""
    if len(weights) == 1:
        return [total]
    sum_of_weights = sum(weights)
    parts = [total * weight // sum_of_weights if sum_of_weights else total // len(weights) for weight in weights]
    parts[0] += total - sum(parts)
    return parts


def error_of(body: str | None, code: str, message: str) -> str:
    """A sentence on why there is no answer: never empty."""
    said = message or (answer_text(parsed(body)) if body else "") or code
    return clean(said, ERROR_CHARACTERS) or "The request failed; the engine did not say why."


def clean(text: str, most: int | None = None) -> str:
    """What PostgreSQL takes: no NUL characters, no lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()[:most]


def _text(message: _Message) -> str:
    text = message.content or message.reasoning_content or message.reasoning or ""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _slowly(body: str) -> list[_Choice]:
    """Of what the strict decoder refuses: contents in parts, broken Unicode."""
    value = parsed(body)
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return []
    return [_choice(choice) for choice in choices if isinstance(choice, dict)]


def _choice(choice: dict[str, Any]) -> _Choice:
    reason = choice.get("finish_reason")
    text = clean(answer_text({"choices": [choice]}))
    return _Choice(_Message(text), reason if isinstance(reason, str) else None)
