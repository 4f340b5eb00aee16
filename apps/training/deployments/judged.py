"""What the judge of a deployment scores, where one was chosen: both models' answers to the questions kept apart.

Where none were kept apart, to those that were trained on. It is asked as judges of runs are (`datasets.runs.judging`),
at temperature 0, one answer after the other, by `proving`, once all answers are there: the plan starts the engine that
it needs. Its scores are figures beside the others, and no evidence of what was learned: a judge that likes the form of
an answer would call learned what is wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from apps.accounts.models import ApiKey
from apps.core.errors import DomainError
from apps.datasets.runs import judging, requests
from apps.models.models import Model
from apps.training.deployments.grading import THINKING
from apps.training.deployments.prompts import Reference, calls_of, text_of
from apps.training.models import Deployment

RUBRIC = (
    "The reference answer is right. 5: the answer says the same, in whatever words. 3: it agrees in part, or it also "
    "says what is not right. 1: it contradicts the reference, or does not answer the question."
)
"""Where none is given."""
TOKENS: int = judging.DEFAULTS["max_tokens"]
WHY = 300  # characters of a reason in the report's sentence
SCORES, UNHEARD = "judged", "judge_message"
"""In a deployment's `parity`: [score, reason] of each of `order`, as far as it was scored, 0 where no score could be
read; and why the judge was not asked for all of them."""


@dataclass(frozen=True, slots=True)
class ChosenJudge:
    model: Model
    rubric: str = RUBRIC
    """What makes an answer good, in words."""
    api_key: ApiKey | None = None
    """Whose request it is, and which has to allow the model."""


def chosen(model: Model | None, rubric: str, api_key: ApiKey | None = None) -> ChosenJudge | None:
    """What a form says; an empty rubric is the usual one. Raises `DomainError` for a rubric that nobody follows."""
    if model is None:
        if rubric.strip():
            raise DomainError("A rubric needs a judge that follows it: choose a model.", param="judge")
        return None
    return ChosenJudge(model, rubric if rubric.strip() else RUBRIC, api_key)


class Place(NamedTuple):
    """An answer that is scored."""

    question: int
    """Its number, from 0."""
    column: str
    """Whose answer: "base", and "adapter" or "merged"."""


def column_of(deployment: Deployment) -> str:
    """Whose answers are those of what will be served."""
    return "adapter" if deployment.kind == Deployment.Kind.ADAPTER else "merged"


def order(parity: Mapping[str, Any], tuned: str) -> list[Place]:
    """All that is scored, a question's two answers next to each other."""
    apart = [at for at, source in enumerate(parity.get("sources", ())) if source != "training"]
    numbers = apart or range(len(parity.get("prompts", ())))
    return [Place(at, column) for at in numbers for column in ("base", tuned)]


def left(deployment: Deployment) -> list[Place]:
    """What is to be scored now. Nothing before all is answered, nor where nothing has changed."""
    parity, tuned = deployment.parity, column_of(deployment)
    if not deployment.judge_name or UNHEARD in parity:
        return []
    answers = [parity.get(column, ()) for column in ("base", tuned)]
    if min(map(len, answers)) < len(parity["prompts"]) or answers[0] == answers[1]:
        return []
    return order(parity, tuned)[len(parity.get(SCORES, ())) :]


def scores_of(parity: Mapping[str, Any], tuned: str) -> dict[Place, int]:
    """1 to 5, of those that have one."""
    scored = zip(order(parity, tuned), parity.get(SCORES, ()), strict=False)
    return {place: value for place, (value, _) in scored if value}


def unheard(deployment: Deployment, why: str) -> str:
    """What the report says of a judge that is asked no more."""
    heard = "no more" if deployment.parity.get(SCORES) else "not"
    return f"The judge {deployment.judge_name} was {heard} asked: {why}"


def remark(deployment: Deployment) -> str:
    """Why the report has no scores, or not all; empty where nothing is to be said."""
    parity = deployment.parity
    scores = parity.get(SCORES, ())
    if UNHEARD in parity or not scores or any(value for value, _ in scores):
        return str(parity.get(UNHEARD, ""))
    why = scores[0][1][:WHY]
    return f"The judge {deployment.judge_name} gave no score that could be read. Of the first answer: {why}"


def request(deployment: Deployment, model: str, place: Place, tokens: int | None = TOKENS) -> bytes:
    """The body of a chat that has one answer scored, in that many tokens; None: as many as there is room for."""
    parity = deployment.parity
    references = parity.get("references", ())
    asked = judging.question(
        deployment,
        messages=json.dumps(_turns(parity["prompts"][place.question])),
        reference=_told(references[place.question] if place.question < len(references) else None),
        answer=THINKING.sub("", parity[place.column][place.question]).strip(),
    )
    return requests.Prompt(model, judging.DEFAULTS | {"max_tokens": tokens}).body(json.dumps(asked))


def _turns(prompt: Mapping[str, Any]) -> Any:
    return prompt["messages"] if "messages" in prompt else [{"role": "user", "content": prompt["prompt"]}]


def _told(reference: Reference | None) -> str:
    """Its text, and its calls of tools as JSON."""
    calls = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in calls_of(reference)]
    return "\n".join(filter(None, (text_of(reference), *calls)))
