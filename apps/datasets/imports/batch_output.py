"""What a line of a batch's output file says of a request: its answers, or why there is none. It trusts no line.

Bodies: https://platform.openai.com/docs/api-reference/chat/object, and vLLM's, which calls thinking `reasoning`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.batches.texts import answer_text

MAX_COUNT = 2**31 - 1
MAX_FINISH = 30  # characters
REASONING = ("reasoning", "reasoning_content")

FAILED = "The request failed."
THOUGHT_ONLY = "The model thought and answered nothing."
STILL_THINKING = "The tokens ended while the model was thinking, before it answered: allow more with max_tokens."
FILTERED = "A content filter held the answer back."

_TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, or an error that says why there is none."""

    text: str = ""
    error: str = ""
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


def is_batch_output(values: Mapping[str, Any]) -> bool:
    return "response" in values or isinstance(values.get("error"), dict)


def outcomes(values: Mapping[str, Any]) -> list[Outcome]:
    """One for each choice, in their order; at least one."""
    response = values.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(body, dict) or response.get("status_code", 200) != 200:
        error = values.get("error")
        said = answer_text(body) or (error.get("message") if isinstance(error, dict) else "")
        return [Outcome(error=str(said or FAILED))]
    usage = body.get("usage")
    tokens = [_count(usage.get(a, usage.get(b))) if isinstance(usage, dict) else 0 for a, b in _TOKENS]
    return [Outcome(text, error, reason[:MAX_FINISH], *tokens) for text, error, reason in _said(body)]


def _said(body: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Text, error and finish reason of each choice."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        yield _response(body)
        return
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        reason = str(choice.get("finish_reason") or "") if isinstance(choice, dict) else ""
        if isinstance(message, dict):
            yield *_message(message, reason), reason
        else:
            yield answer_text({"choices": [choice]}), "", reason


def _message(message: Mapping[str, Any], reason: str) -> tuple[str, str]:
    """Its text or its calls as JSON, as references are kept; else why it has none. Thinking is no answer."""
    plain = {key: part for key, part in message.items() if key not in REASONING}
    if text := answer_text({"choices": [{"message": plain}]}):
        return text, ""
    if calls := message.get("tool_calls"):
        return json.dumps(calls, ensure_ascii=False), ""
    return "", _why_not(message, reason)


def _why_not(message: Mapping[str, Any], reason: str) -> str:
    if (refusal := message.get("refusal")) and isinstance(refusal, str):
        return f"The model refused: {refusal}"
    if reason == "content_filter":
        return FILTERED
    if any(message.get(name) for name in REASONING):
        return STILL_THINKING if reason == "length" else THOUGHT_ONLY
    return ""


def _response(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of /v1/responses and /v1/embeddings."""
    output = body.get("output")
    items = output if isinstance(output, list) else []
    spoken = [item for item in items if not (isinstance(item, dict) and item.get("type") == "reasoning")]
    details = body.get("incomplete_details")
    cut = isinstance(details, dict) and details.get("reason") == "max_output_tokens"
    text = answer_text({**body, "output": spoken} if items else body)
    calls = [item for item in spoken if isinstance(item, dict) and item.get("type") == "function_call"]
    if not text and calls:
        text = json.dumps(calls, ensure_ascii=False)
    error = "" if text or len(spoken) == len(items) else STILL_THINKING if cut else THOUGHT_ONLY
    return text, error, "length" if cut else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else 0
