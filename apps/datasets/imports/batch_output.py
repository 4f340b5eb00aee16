"""What a line of a batch's output file says of a request: its answers, or why there is none. It trusts no line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.batches.answers import Said, answers_in
from apps.batches.texts import answer_text

MAX_COUNT = 2**31 - 1
MAX_FINISH = 30  # characters
FAILED = "The request failed."

_TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, or an error that says why there is none."""

    said: Said = field(default_factory=Said)
    error: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


def is_batch_output(values: Mapping[str, Any]) -> bool:
    """A `response` that is text is an answer, as in other columns of that name."""
    text = isinstance(values.get("response"), str)
    return ("response" in values and not text) or isinstance(values.get("error"), dict)


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
    found = answers_in(body) or [Said(answer_text(body))]
    return [Outcome(said._replace(finish_reason=said.finish_reason[:MAX_FINISH]), "", *tokens) for said in found]


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else 0
