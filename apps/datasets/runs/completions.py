"""What a chat completion says: its choices in their parts. It runs for every answer, and trusts none of them."""

from typing import NamedTuple

import msgspec

from apps.batches.answers import Said, answers_in, calls_text
from apps.batches.texts import answer_text, parsed
from apps.conversations.conversation import ToolCall

ERROR_CHARACTERS = 5_000
FINISH_CHARACTERS = 30
UNREADABLE = "The engine's answer is no chat completion."


class Unreadable(ValueError):
    """It is not a chat completion that has choices."""


class Choice(NamedTuple):
    said: Said
    output_tokens: int = 0


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    refusal: str | None = None
    function_call: None = None
    """A call of this older form is read with patience."""


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
        said = [_said(choice) for choice in sorted(_decode(body).choices, key=lambda choice: choice.index)]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        said = _slowly(body)
    if not said:
        raise Unreadable(UNREADABLE)
    shares = share(output_tokens, [len(each.text) + len(each.reasoning) + len(each.tool_calls) for each in said])
    return [Choice(each, tokens) for each, tokens in zip(said, shares, strict=True)]


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


def _said(choice: _Choice) -> Said:
    """By the rule of `answers_in`, at C speed."""
    message = choice.message
    calls = calls_text(message.tool_calls or ())
    return Said(
        _without_nul(message.content or ""),
        _without_nul(message.reasoning or message.reasoning_content or ""),
        calls.replace("\\u0000", "\\ufffd") if "\\u0000" in calls else calls,
        _without_nul(message.refusal or ""),
        clean(choice.finish_reason or "", FINISH_CHARACTERS),
    )


def _without_nul(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _slowly(body: str) -> list[Said]:
    """Of what the strict decoder refuses: contents in parts, broken Unicode."""
    value = parsed(body)
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return []
    return [said._replace(finish_reason=said.finish_reason[:FINISH_CHARACTERS]) for said in answers_in(value)]
