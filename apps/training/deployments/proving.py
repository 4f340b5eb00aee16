"""Deployments that have to prove themselves: a job kind that asks the engines, and a duty for what it cannot see.

The base is asked first, then the adapter on the same engine, or the merged model on its own, and last the judge, where
one was chosen. Each answer is kept as it comes, so that whoever goes on begins where another was stopped. A judge that
cannot be had ends nothing: the verdict says so.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from apps.core import attempts, leases
from apps.core.text import storable
from apps.datasets.runs import judging
from apps.datasets.runs.requests import URL
from apps.events import progress
from apps.models.jobs import EngineHost, Job
from apps.models.models import Engine, EngineDeath, Model
from apps.training.deployments import judged, left_out, verdicts
from apps.training.deployments import services as deployments
from apps.training.deployments.asking import Rejected, Said, Unanswered, ask, post, with_room
from apps.training.deployments.files import is_whole_model
from apps.training.deployments.parity import Report, judge
from apps.training.models import Deployment

PREFIX = "parity:"  # of the keys under which attempts are counted
PRIORITY = 100  # before batches, as the first prompt of an install
PATIENCE = timedelta(minutes=5)  # a model that serves a batch then makes room
GUESS_SECONDS = 2.0  # of an answer

Kind = Deployment.Kind
Status = Deployment.Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """What the judge gave an answer; see `judging.read_score`."""

    value: int
    reason: str

    def added_to(self, parity: dict[str, Any], column: str) -> dict[str, Any]:
        """What changes of `parity`."""
        return {column: [*parity.get(column, ()), [self.value, self.reason]]}


@dataclass(frozen=True, slots=True)
class _Question:
    """What a deployment is asked next."""

    column: str
    """Of the deployment's `parity`: whose answers ("base", "adapter", "merged"), or the judge's scores."""
    model: Model
    number: int
    """From 0, within the column."""
    left: int
    """Of this column, this one too."""
    place: judged.Place | None = None
    """What the judge scores; None: a model is asked."""


class ParityKind:
    """See `apps.models.jobs.Kind`."""

    def backlog(self) -> list[Job]:
        return list(filter(None, attempts.each(_proving(), PREFIX, _job, _give_up)))

    def run(self, host: EngineHost, _keeper: leases.Keeper, _window: int) -> None:
        """One prompt after the other: answers of several at once depend on each other by rounding."""
        attempts.each(_proving(), PREFIX, lambda deployment: _ask_all(deployment, host), _give_up)


def _ask_all(deployment: Deployment, host: EngineHost) -> None:
    while (question := _next(deployment)) and _is_served(question.model, host):
        if not host.go_on() or not _ask(deployment, question, host):
            break


def _give_up(pk: int, why: str) -> None:
    with transaction.atomic():
        for deployment in _proving().filter(pk=pk):
            deployments.end(deployment, Status.FAILED, why)


def settle_deployments(_keeper: leases.Keeper) -> bool:
    """End those whose engine did not come up or whose model is gone, and those whose model somebody deleted."""
    ended = attempts.each(_proving(), PREFIX, _settle, _give_up)
    deleted = Deployment.objects.filter(status__in=(Status.READY, Status.UNPROVEN), model=None)
    return any([*ended, *(deployment.advance(Status.UNDEPLOYED, message="Deleted.") for deployment in deleted)])


def _proving() -> QuerySet[Deployment]:
    rows = Deployment.objects.filter(status=Status.PROVING).order_by("pk")
    return rows.select_related(
        "checkpoint__job__base", "checkpoint__job__project", "model__base", "judge__base", "project"
    )


def _job(deployment: Deployment) -> Job | None:
    question = _next(deployment)
    if question is None or deployment.model is None or deployment.model.problem:
        return None  # `settle_deployments` ends it
    return Job(
        kind="parity",
        model_id=question.model.engine_model.pk,
        waiting=question.left,
        priority=PRIORITY,
        deadline=deployment.model.created_at + PATIENCE,
        since=deployment.model.created_at,
        seconds=question.left * GUESS_SECONDS,
    )


def _next(deployment: Deployment) -> _Question | None:
    """The first prompt that lacks an answer, or answer that lacks a score. None: there is none, or a model is gone."""
    base, model, parity = deployment.checkpoint.job.base, deployment.model, deployment.parity
    if base is None or model is None:
        return None
    for column, asked in (("base", base), ("adapter" if model.base_id else "merged", model)):
        done, total = len(parity.get(column, ())), len(parity["prompts"])
        if done < total:
            return _Question(column, asked, done, total - done)
    places, judge = judged.left(deployment), deployment.judge
    if not places or judge is None or judge.problem:
        return None
    return _Question(judged.SCORES, judge, len(parity.get(judged.SCORES, ())), len(places), places[0])


def _is_served(model: Model, host: EngineHost) -> bool:
    spec = host.engine.spec
    return spec.served_name == model.engine_model.name and model.name in host.engine.served


def _ask(deployment: Deployment, question: _Question, host: EngineHost) -> bool:
    """Keep the answer. False: the deployment has ended, or goes on elsewhere."""
    try:
        answer = _answer(deployment, question, host)
    except Rejected as error:
        return _leave_out(deployment, question, storable(str(error)))
    except Unanswered as error:
        if host.must_stop():
            return False
        if question.place:
            _go_on_without_judge(deployment, str(error))
        else:
            with transaction.atomic():
                deployments.end(deployment, Status.FAILED, str(error))
        if question.model.base_id and host.engine.ends_within(0):
            host.restart(explained=True)  # it died of an adapter, which is no fault of its base
        return False
    return _keep(deployment, question, answer)


def _answer(deployment: Deployment, question: _Question, host: EngineHost) -> Said | Scored:
    """Raises `Unanswered`."""
    parity, number, name = deployment.parity, question.number, question.model.name
    if question.place:
        return _have_scored(host, name, partial(judged.request, deployment, name, question.place))
    reference = next(iter(parity.get("references", ())[number : number + 1]), None)
    return ask(host, name, parity["prompts"][number], reference)


def _have_scored(host: EngineHost, name: str, request: Callable[[int | None], bytes]) -> Scored:
    """`request` gives the body, for so many tokens of an answer. Without a score where the judge does not take it: it
    may be too long. Raises `Unanswered`."""
    try:
        said = with_room(lambda tokens: post(host, name, URL, request(tokens)), judged.TOKENS)
        value, reason = judging.score_in(said.decode(errors="replace"))
    except Rejected as error:
        value, reason = 0, str(error)
    return Scored(value, storable(reason))


def _keep(deployment: Deployment, question: _Question, answer: Said | Scored) -> bool:
    """Write it down, and judge when it was the last. False when somebody else was faster: look at the row anew."""
    return _change(deployment, question, lambda parity: parity | answer.added_to(parity, question.column))


def _leave_out(deployment: Deployment, question: _Question, why: str) -> bool:
    """A row that the engine refuses is not asked; without any other, the deployment has failed. As `_keep`."""
    if len(deployment.parity["prompts"]) > 1:
        return _change(deployment, question, lambda parity: left_out.without(parity, question.number, why))
    with transaction.atomic():
        told = left_out.sentence(left_out.without(deployment.parity, question.number, why))
        deployments.end(deployment, Status.FAILED, f"There is no row left to ask. {told}")
    return False


def _change(deployment: Deployment, question: _Question, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
    with transaction.atomic():
        same = Deployment.objects.filter(pk=deployment.pk, status=Status.PROVING, model=deployment.model)
        row = same.select_for_update(of=("self",)).first()
        if row is None or len(row.parity.get(question.column, ())) != question.number:
            return False
        deployment.parity = change(row.parity)
        same.update(parity=deployment.parity)
        progress.hint(deployments.TOPIC, deployment.uid)
        if _next(deployment) is None:
            _conclude(deployment, _why_no_judge(deployment))
    return True


def _go_on_without_judge(deployment: Deployment, why: str) -> bool:
    """False when somebody else was faster."""
    with transaction.atomic():
        same = Deployment.objects.filter(pk=deployment.pk, status=Status.PROVING, model=deployment.model)
        row = same.select_for_update(of=("self",)).first()
        if row is None or judged.UNHEARD in row.parity:
            return False
        deployment.parity = row.parity
        _conclude(deployment, why)
    return True


def _conclude(deployment: Deployment, why_no_judge: str = "") -> None:
    """All was answered, and judged, unless something says why it was not."""
    if why_no_judge:
        deployment.parity |= {judged.UNHEARD: judged.unheard(deployment, why_no_judge)}
    parity = deployment.parity
    report, graded = _judge(deployment), verdicts.grade_of(deployment)
    going_on = deployment.kind == Kind.MERGED and "merged" not in parity
    if going_on and report.passed:
        Deployment.objects.filter(pk=deployment.pk).update(parity=parity | {"adapter_report": report.as_dict()})
        deployment.advance(Status.MERGING, message=graded.sentence)
        deployments.tell(deployment)
        return
    passed = report.passed and graded.verdict == "learned"
    told = (verdicts.sentence_of(report, graded, judged.remark(deployment)), left_out.sentence(parity))
    sentence = " ".join(filter(None, told))
    deployment.parity = parity | report.as_dict() | graded.as_dict() | {"passed": passed, "sentence": sentence}
    Deployment.objects.filter(pk=deployment.pk).update(parity=deployment.parity)
    whole = f"{sentence} {graded.cure}".strip()
    if not report.passed:
        deployments.end(deployment, Status.REFUSED, whole)
    elif passed:
        deployments.make_ready(deployment, sentence)
    else:
        deployments.end(deployment, Status.UNPROVEN, f"{whole} Nothing is served until it is accepted.")


def _judge(deployment: Deployment) -> Report:
    parity = deployment.parity
    if is_whole_model(deployment.checkpoint):
        return judge(parity["prompts"], parity["base"], parity["merged"])
    return judge(parity["prompts"], parity["base"], parity["adapter"], parity.get("merged"))


def _settle(deployment: Deployment) -> bool:
    """Whether it was ended."""
    model, base = deployment.model, deployment.checkpoint.job.base
    if model is None or base is None:
        message = "The model was deleted before it was compared."
    elif judged.left(deployment):
        why = _why_no_judge(deployment)
        return bool(why) and _go_on_without_judge(deployment, why)
    elif model.problem:
        message = f"The adapter is not served: {model.problem}"
    elif death := _death(base, model) or _death(model.engine_model, model):
        message = death.headline
    else:
        return False
    with transaction.atomic():
        return deployments.end(deployment, Status.FAILED, message)


def _why_no_judge(deployment: Deployment) -> str:
    """A sentence where something is to be scored and nobody can; else empty."""
    judge, model = deployment.judge, deployment.model
    if not judged.left(deployment) or model is None:
        return ""
    if judge is None:
        return "it was deleted."
    if judge.problem:
        return f"it is not served: {judge.problem}"
    death = _death(judge.engine_model, model)
    return death.headline if death else ""


def _death(engine_model: Model, model: Model) -> EngineDeath | None:
    """Of an engine that died since, and that did not come up again."""
    rows = Engine.objects.filter(model=engine_model)
    if not rows.filter(state=Engine.State.FAILED).exists() or rows.filter(state__in=Engine.SERVING).exists():
        return None
    return EngineDeath.objects.filter(model=engine_model, at__gt=model.created_at).first()
