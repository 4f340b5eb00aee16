"""What an engine answered, in its parts: the one rule for pages, runs, imports and exports. It trusts no engine.

Text is the content and nothing else: thinking, calls of tools and a refusal stand apart. Bodies are OpenAI's
(https://platform.openai.com/docs/api-reference/chat/object), and vLLM's, which calls thinking `reasoning`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from apps.conversations.conversation import FunctionCall, ToolCall
from apps.core.text import storable

REASONING = ("reasoning", "reasoning_content", "thinking")
THOUGHTS = ("thinking", "reasoning")
"""Types of a content's parts that are no text."""
CUT_OFF = ("length", "max_tokens", "model_length", "abort", "repetition")
"""Finish reasons of an answer that is not all there, in the words of several engines."""
FILTERED = "content_filter"

_encode = msgspec.json.Encoder().encode


class Said(NamedTuple):
    """One answer."""

    text: str = ""
    reasoning: str = ""
    tool_calls: str = ""
    """JSON: OpenAI's list, arguments as the model wrote them; "" for none."""
    refusal: str = ""
    finish_reason: str = ""


class Incomplete(NamedTuple):
    """Why an answer should not be learned from as it is."""

    code: str
    """refused, content_filter, blank or cut_off."""
    sentence: str


def incomplete(said: Said, tokens: int = 0) -> Incomplete | None:
    """None for a whole answer. `tokens`: of the answer, where they are known."""
    reason = said.finish_reason.lower()
    if said.refusal:
        return Incomplete("refused", f"The model refused: {said.refusal}")
    if reason == FILTERED:
        return Incomplete(FILTERED, "A content filter stopped this answer.")
    cut, blank = reason in CUT_OFF, is_blank(said.text, said.tool_calls)
    after = f" after {tokens:,} tokens" if tokens else ""
    if blank and cut:
        return Incomplete("blank", f"No answer: cut off{after}{' of reasoning' if said.reasoning else ''}.")
    if blank:
        return Incomplete("blank", f"No answer: {'the model only thought' if said.reasoning else 'the text is empty'}.")
    return Incomplete("cut_off", f"Cut off{after}.") if cut else None


def is_blank(text: str, tool_calls: str) -> bool:
    return not tool_calls and not text.strip()


def answers_in(body: Mapping[str, Any]) -> list[Said]:
    """Of each choice of a completion, in their order; of a response, one; of embeddings, their sizes as text.

    What they say can be stored.
    """
    return [Said(*map(storable, said)) for said in _answers_in(body)]


def _answers_in(body: Mapping[str, Any]) -> list[Said]:
    choices = body.get("choices")
    if isinstance(choices, list):
        return [_choice(choice) for choice in choices if isinstance(choice, dict)]
    if isinstance(body.get("output"), list):
        return [_response(body)]
    data = body.get("data")
    return [_item(item) for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def as_text(text: str, tool_calls: str) -> str:
    """What people and judges read: the text, then a line for each call."""
    calls = [f"{call.function.name}({call.function.arguments})" for call in calls_of(tool_calls)]
    return "\n".join(part for part in (text, *calls) if part.strip())


def calls_of(tool_calls: str) -> tuple[ToolCall, ...]:
    """Of `Said.tool_calls`; arguments may be no JSON. Empty for what is none of ours."""
    try:
        return _calls_in(tool_calls) if tool_calls else ()
    except msgspec.MsgspecError:
        return ()


_calls_in = msgspec.json.Decoder(tuple[ToolCall, ...]).decode


def calls_text(calls: Sequence[ToolCall]) -> str:
    """As `Said` keeps them."""
    return _encode(calls).decode() if calls else ""


def _choice(choice: dict[str, Any]) -> Said:
    reason = choice.get("finish_reason")
    message = choice.get("message")
    said = _message(message) if isinstance(message, dict) else _item(choice)
    return said._replace(finish_reason=reason if isinstance(reason, str) else "")


def _message(message: dict[str, Any]) -> Said:
    said = _content(message.get("content"))
    thoughts = next((text for name in REASONING if (text := _content(message.get(name)).text)), "")
    legacy = message.get("function_call")
    calls = message.get("tool_calls") or ([legacy] if isinstance(legacy, dict) else None)
    refusal = message.get("refusal")
    return Said(
        said.text, thoughts or said.reasoning, _calls(calls), refusal if isinstance(refusal, str) else said.refusal
    )


def _item(item: dict[str, Any]) -> Said:
    if isinstance(vector := item.get("embedding"), list):
        return Said(f"[{len(vector)} numbers]")
    said = _content(item.get("content"))
    return said if said.text else said._replace(text=_content(item.get("text")).text)


def _response(body: Mapping[str, Any]) -> Said:
    """Of /v1/responses: messages, thinking and calls are items side by side."""
    items = [item for item in body["output"] if isinstance(item, dict)]
    calls = [item for item in items if item.get("type") == "function_call"]
    thinking = [item for item in items if item.get("type") == "reasoning"]
    spoken = [_item(item) for item in items if item.get("type") not in ("function_call", "reasoning")]
    thoughts = [_content(item.get("content")).text or _content(item.get("summary")).text for item in thinking]
    details = body.get("incomplete_details")
    why = details.get("reason") if isinstance(details, dict) else None
    return Said(
        _joined(said.text for said in spoken), _joined(thoughts), _calls(calls),
        _joined(said.refusal for said in spoken),
        {"max_output_tokens": "length", FILTERED: FILTERED}.get(str(why), ""),
    )  # fmt: skip


def _joined(texts: Iterator[str] | list[str]) -> str:
    return "\n\n".join(filter(None, texts))


def _content(content: Any) -> Said:
    """A content is a string or a list of parts; parts that are no text show their type."""
    if not isinstance(content, list):
        return Said(content) if isinstance(content, str) else Said()
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal":
            refusals.append(str(part.get("refusal", "")))
        elif kind in THOUGHTS:
            thoughts.append(_content(part.get(kind, part.get("text"))).text)
        else:
            texts.append(str(part.get("text", f"[{kind or '?'}]") if isinstance(part, dict) else part))
    return Said("\n".join(texts), "\n".join(thoughts), "", "\n".join(refusals))


def _calls(calls: Any) -> str:
    """Whatever form they have, in OpenAI's; what is no call at all is kept as the arguments of one without a name."""
    if not isinstance(calls, list) or not calls:
        return ""
    return calls_text([_call(call, number) for number, call in enumerate(calls, start=1)])


def _call(call: Any, number: int) -> ToolCall:
    given = call if isinstance(call, dict) else {"arguments": call}
    function = given.get("function") or given.get("custom") or given
    function = function if isinstance(function, dict) else {"arguments": function}
    arguments = function.get("arguments", function.get("input"))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    id_ = given.get("call_id") or given.get("id") or f"call_{number}"
    name = str(function.get("name") or "")
    return ToolCall(id=storable(str(id_)), function=FunctionCall(storable(name), storable(text)))
