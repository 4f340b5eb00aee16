"""A question whose answer is kept from before an engine slept: weights that came back wrong answer it differently.

After some wake-ups vLLM has answered with silent garbage, in good health (vllm-project/vllm#21336, #29341).
"""

import json
import math
from dataclasses import dataclass
from typing import Any

PROMPT = "Count: one, two, three, four,"  # the answer is no close call for any model, so that rounding cannot turn it
TOKENS = 8
TOLERANCE = 0.1  # in log probabilities, or of an embedding's length: rounding stays far below, garbage far above


@dataclass(frozen=True, slots=True)
class Canary:
    """What an engine answered: the tokens and their log probabilities, or an embedding's numbers."""

    tokens: tuple[str, ...]
    numbers: tuple[float, ...]

    @property
    def is_finite(self) -> bool:
        """Whether there is an answer, and all its numbers are."""
        return bool(self.tokens or self.numbers) and all(map(math.isfinite, self.numbers))

    def difference(self, other: "Canary | None") -> str:
        """What differs in `other`, in words; empty when nothing does."""
        if other is None:
            return "the canary was not answered."
        if self.tokens != other.tokens or len(self.numbers) != len(other.numbers):
            return f"the canary was {self.tokens}, and is {other.tokens}."
        pairs = list(zip(self.numbers, other.numbers, strict=True))
        if all(abs(mine - its) <= TOLERANCE for mine, its in pairs):  # never true of NaN
            return ""
        return f"the canary's numbers are off by {max(abs(mine - its) for mine, its in pairs):.3g}."


def request(runner: str, prompt: str = PROMPT) -> tuple[str, dict[str, Any]]:
    """The route and the body, the model's name apart."""
    if runner == "pooling":
        return "/v1/embeddings", {"input": prompt}
    return "/v1/completions", {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "logprobs": 0}


def read(runner: str, answer: bytes) -> Canary | None:
    """None for an answer that cannot be compared."""
    try:
        document = json.loads(answer)
        if runner == "pooling":
            return Canary((), tuple(map(float, document["data"][0]["embedding"])))
        logprobs = document["choices"][0]["logprobs"]
        return Canary(tuple(logprobs["tokens"]), tuple(map(float, logprobs["token_logprobs"])))
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None
