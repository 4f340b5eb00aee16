"""The last step of an install: the model's engine has to answer a first prompt. A job kind, and a duty for what it
cannot see: engines that never came up, and installs that were cancelled meanwhile.
"""

import contextlib
import http.client
import json
import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from apps.core import attempts, bell, leases
from apps.events import progress
from apps.events.services import announce
from apps.models import claims
from apps.models.engines import canary
from apps.models.engines.canary import Canary
from apps.models.engines.causes import last_cause
from apps.models.engines.deaths import is_broken
from apps.models.engines.engine import CAUSE_LINES, UnixHTTPConnection
from apps.models.jobs import EngineHost, Job
from apps.models.models import Engine, EngineDeath, Install, Model

PREFIX = "boot:"  # of the keys under which attempts are counted
PRIORITY = 100  # before batches, which can have no higher one
PATIENCE = timedelta(minutes=5)  # a model that serves a batch then makes room
ANSWER_SECONDS = 120.0
DEATHS_OF_BASE = 3  # of whose engine, until an adapter is tried no more
NEVER_TRIED = "The model was deleted before its engine was tried."

Status = Install.Status

log = logging.getLogger(__name__)


class Unanswered(Exception):
    """A first prompt was not answered, or with nothing of use. The message says why."""


class BootKind:
    """See `apps.models.jobs.Kind`."""

    def backlog(self) -> list[Job]:
        return attempts.each(_booting().filter(model__problem=""), PREFIX, _job, _give_up)

    def run(self, host: EngineHost, _keeper: leases.Keeper, _window: int) -> None:
        """Ask once for every model that waits for this engine. The answer ends its install, whatever it is."""
        served, lives = _booting().filter(model__name__in=host.engine.served), [True]

        def ask_one(install: Install) -> None:
            if lives[-1] and host.go_on():
                lives.append(_try(install, host))

        attempts.each(served, PREFIX, ask_one, _give_up)


def _lives_on(host: EngineHost, install: Install) -> bool:
    """Whether there is an engine to ask. One that died of an adapter comes back at once: its base is not to blame."""
    if not host.engine.ends_within(0):
        return True
    is_adapter = install.model is not None and install.model.base_id is not None
    return is_adapter and host.restart(explained=True)


def settle_boots(_keeper: leases.Keeper) -> bool:
    """End the boots that were cancelled, or whose engine did not come up; forget what nobody tries any more."""
    ended = attempts.each(_booting(), PREFIX, _settle, _give_up)
    untried = Model.objects.filter(ready=False).exclude(installs__status=Status.BOOTING)
    forgotten, _ = untried.exclude(pk__in=claims.claimed()).delete()
    return any(ended) or forgotten > 0


def _job(install: Install) -> Job:
    assert install.model  # noqa: S101 (for mypy: the query leaves out those without)
    return Job(
        kind="boot",
        model_id=install.model.engine_model.pk,
        waiting=1,
        priority=PRIORITY,
        deadline=install.model.created_at + PATIENCE,
        since=install.model.created_at,
    )


def _try(install: Install, host: EngineHost) -> bool:
    """Whether there is an engine for the next one."""
    if problem := ask(host, install.model):
        fail(install, problem)
        return _lives_on(host, install)
    succeed(install)
    return True


def _give_up(pk: int, why: str) -> None:
    for install in _booting().filter(pk=pk):
        fail(install, why)


def ask(host: EngineHost, model: Model | None) -> str:
    """What is wrong with the model's first answer; empty when it wrote a token, or a vector of numbers."""
    assert model  # noqa: S101 (for mypy: the query found it by its model)
    try:
        _send(host, model.name, model.runner, *canary.request(model.runner))
    except Unanswered as error:
        return str(error)
    return ""


def _send(host: EngineHost, name: str, runner: str, route: str, body: dict[str, Any]) -> Canary:
    connection = UnixHTTPConnection(host.engine.spec.socket, ANSWER_SECONDS)
    try:
        with contextlib.closing(connection):
            payload = json.dumps({"model": name, **body})
            connection.request("POST", route, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, answer = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        cause = last_cause(host.engine.tail(CAUSE_LINES), host.engine.spec.model) or repr(error)
        raise Unanswered(f"Its engine did not answer a first prompt: {cause}.") from error
    said = answer.decode(errors="replace")[:2_000]
    if status != 200:
        raise Unanswered(f"Its engine refused a first prompt: {said}")
    found = canary.read(runner, answer)
    if found is None or not found.is_finite:
        raise Unanswered(f"Its engine answered a first prompt with nothing of use: {said}")
    return found


def succeed(install: Install) -> None:
    with transaction.atomic():
        notes = install.model.notes if install.model else []
        if install.advance(Status.READY, message=" ".join(notes)):
            Model.objects.filter(installs=install).update(ready=True)
            announce(type="model.installed", project=install.project, data={"id": install.uid})
            progress.hint("install", install.uid)


def fail(install: Install, message: str, status: Install.Status = Status.FAILED) -> None:
    """The files stay for another try; the model's row is left to `settle_boots`, as its engine may be running."""
    with transaction.atomic():
        if install.advance(status, message=message):
            Model.objects.filter(installs=install, ready=False).exclude(base=None).update(problem=message)
            bell.ring("control")
            progress.hint("install", install.uid)


def _booting() -> QuerySet[Install]:
    return Install.objects.filter(status=Status.BOOTING).select_related("model__base", "project").order_by("pk")


def _settle(install: Install) -> bool:
    """Whether it was ended. An adapter ends by what it did itself, or where its base's engine does not run either."""
    model = install.model
    if model is None:
        fail(install, NEVER_TRIED)
    elif install.cancel_requested_at is not None:
        fail(install, "Cancelled.", Status.CANCELLED)
    elif problem := model.problem or _why_untried(model):
        fail(install, problem)
    else:
        return False
    return True


def _why_untried(model: Model) -> str:
    """What the model's engine died of since; of an adapter, why its base's engine cannot be tried."""
    deaths = EngineDeath.objects.filter(model=model.engine_model, at__gt=model.created_at)
    died = deaths.first()
    if died is None or model.base is None:
        return died.headline if died else ""
    serves = Engine.objects.filter(model=model.base, state__in=Engine.SERVING).exists()
    if not serves and (is_broken(model.base) or deaths.count() >= DEATHS_OF_BASE):
        return f"Its base model {model.base} does not start, so that it could not be tried: {died.headline}"
    return ""
