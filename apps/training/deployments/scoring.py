"""How likely a reference is for a model: the engine reads it as if it had written it, and says what each token cost.

The conversation is rendered up to the answer, and with it; what the second has more is the answer with its end. Where
the begin of both is not the same, as a few templates have it, the tokens from where they part are taken.
"""

import math
from collections.abc import Callable
from typing import Any

from apps.training.deployments.prompts import Prompt, Reference

Send = Callable[[dict[str, Any]], dict[str, Any]]
"""A request's body to the answer's, for one model. Raises `Refused`, and what ends the comparison."""

READ = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "return_token_ids": True}
LEAST = -100.0  # a log-probability below is counted as that: the engine writes -9999 for none at all


class Refused(Exception):
    """The engine does not read it: a template may want a user's turn last, or it is too long."""


def asking(prompt: Prompt) -> dict[str, Any]:
    """The part of a request's body that asks; calls of tools are told as text, whatever parser there is."""
    return {**prompt, "return_token_ids": True} | ({"tool_choice": "none"} if prompt.get("tools") else {})


def losses(
    send: Send, prompt: Prompt, reference: Reference | None, asked: dict[str, Any]
) -> tuple[float | None, float | None]:
    """Mean loss of the reference's tokens, and of the answer that is not preferred; None: there is none, or not known.

    `asked` is the engine's answer to the prompt alone, as `asking` has it asked.
    """
    if not reference:
        return None, None
    start = _ids(asked)
    if "text" in reference:
        return _of(send, start, {"prompt": prompt["prompt"] + reference["text"]}), None
    better, worse = (_of(send, start, _with(prompt, reference.get(name))) for name in ("messages", "rejected"))
    return better, worse


def _with(prompt: Prompt, answer: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The body that has the whole conversation read; empty without an answer."""
    if not answer:
        return {}
    return asking(prompt) | {"messages": [*prompt["messages"], *answer], "add_generation_prompt": False}


def _of(send: Send, start: list[int], whole: dict[str, Any]) -> float | None:
    try:
        return _loss(start, send(whole | READ)) if whole else None
    except Refused:
        return None


def _loss(start: list[int], answer: dict[str, Any]) -> float | None:
    """Of the tokens behind those that are as `start`."""
    ids, costs = _ids(answer), _costs(answer)
    if not start:
        return None
    begin = next((at for at, (one, other) in enumerate(zip(start, ids, strict=False)) if one != other), len(start))
    found = [
        max(float(cost[str(token)]["logprob"]), LEAST)
        for token, cost in zip(ids[begin:], costs[begin:], strict=False)
        if cost and str(token) in cost
    ]
    return round(-math.fsum(found) / len(found), 4) if found else None


def _ids(answer: dict[str, Any]) -> list[int]:
    """Of the prompt: in the answer of a chat, in the choice of a completion."""
    return answer.get("prompt_token_ids") or answer["choices"][0].get("prompt_token_ids") or []


def _costs(answer: dict[str, Any]) -> list[dict[str, Any] | None]:
    return answer.get("prompt_logprobs") or answer["choices"][0].get("prompt_logprobs") or []
