"""One question to a model on an engine: what it answers at temperature 0, and how likely the reference is for it.

It knows no deployment: what becomes of an answer, or of a question without one, is for the caller.
"""

import contextlib
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from apps.core.text import storable
from apps.datasets.runs.requests import URL
from apps.models.engines.causes import last_cause
from apps.models.engines.engine import CAUSE_LINES, UnixHTTPConnection
from apps.models.jobs import EngineHost
from apps.training.deployments import scoring
from apps.training.deployments.prompts import Prompt, Reference, text_of

ANSWER_SECONDS = 300.0
LEAST_TOKENS, MOST_TOKENS = 64, 512  # of an answer, beyond the characters of its reference
ERROR_CHARACTERS = 2_000

Told = TypeVar("Told")


class Unanswered(Exception):
    """The engine refused a prompt, or is gone. The message says why."""


class Rejected(Unanswered, scoring.Refused):
    """The engine is there, and does not take it."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and the reference's losses; see `grading.Answer`."""

    text: str
    ended: bool
    loss: float | None
    rejected_loss: float | None

    def added_to(self, parity: dict[str, Any], column: str) -> dict[str, Any]:
        """What changes of `parity`."""
        figures = {"ended": self.ended, "loss": self.loss, "rejected_loss": self.rejected_loss}
        measured = parity.get("measured", {})
        return {
            column: [*parity.get(column, ()), self.text],
            "measured": measured | {column: [*measured.get(column, ()), figures]},
        }


def ask(host: EngineHost, name: str, prompt: Prompt, reference: Reference | None = None) -> Said:
    """The model's answer at temperature 0, and how likely the reference is for it. Raises `Unanswered`."""
    allowed = min(LEAST_TOKENS + len(text_of(reference)), MOST_TOKENS)
    body = scoring.asking(prompt) | {"temperature": 0, "seed": 0}
    answer = with_room(lambda tokens: _send(host, name, body | {"max_tokens": tokens}), allowed)
    losses = scoring.losses(lambda body: _send(host, name, body), prompt, reference, answer)
    choice = answer["choices"][0]
    ended = choice.get("finish_reason") != "length"
    if not ended and reference and losses[0] is None and _written(answer) < allowed:
        raise Rejected("the engine's context has no room for its answer.")
    return Said(_text(choice), ended, *losses)


def with_room(send: Callable[[int | None], Told], tokens: int) -> Told:
    """What `send` gives for so many tokens of an answer; or, where that is more than the engine's whole context, for as
    many as there is room for. Raises what `send` raises."""
    try:
        return send(tokens)
    except Rejected:
        return send(None)


def _written(answer: dict[str, Any]) -> int:
    """Tokens."""
    return int((answer.get("usage") or {}).get("completion_tokens") or 0)


def _send(host: EngineHost, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The engine's answer to a chat or a completion. Raises `Unanswered`."""
    route = URL if "messages" in body else "/v1/completions"
    found: dict[str, Any] = json.loads(post(host, name, route, json.dumps({"model": name, **body}).encode()))
    return found


def post(host: EngineHost, name: str, route: str, content: bytes) -> bytes:
    """The engine's answer to `content`, which names the model. Raises `Unanswered`."""
    connection = UnixHTTPConnection(host.engine.spec.socket, ANSWER_SECONDS)
    try:
        with contextlib.closing(connection):
            connection.request("POST", route, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, answer = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        cause = last_cause(host.engine.tail(CAUSE_LINES), host.engine.spec.model) or repr(error)
        raise Unanswered(f"The engine of {name} did not answer: {cause}.") from error
    if status != 200:
        said = answer.decode(errors="replace")[:ERROR_CHARACTERS]
        if status == 400:
            raise Rejected(f"the engine refuses it: {_message(said)}")
        raise Unanswered(f"The engine refused a prompt to {name}: {said}")
    return answer


def _message(said: str) -> str:
    """Of an error as OpenAI has them; else what was said."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return said


def _text(choice: dict[str, Any]) -> str:
    """What was said and thought; models that think spend their first tokens on that."""
    message = choice.get("message") or {"content": choice.get("text")}
    thought = message.get("reasoning") or message.get("reasoning_content")
    return storable("".join(filter(None, (thought and f"<think>{thought}</think>", message.get("content")))))
