"""A GPU worker: does what the plan says with its slot's engines, and lends the one that is awake to jobs."""

import contextlib
import logging
import time
from datetime import datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import Error
from django.db.models.functions import Now
from django.utils import timezone

from apps.core import leases
from apps.core.faults import plain
from apps.core.process import ProcessGroup
from apps.models import costs, demand, jobs, plan
from apps.models.engines import adapters
from apps.models.engines.adapters import Ranked
from apps.models.engines.deaths import LOG_LINES, Deaths, broken_models
from apps.models.engines.engine import CanaryDiffers, Engine, EngineFailed, FilesDamaged
from apps.models.engines.fleet import AdapterKilledEngine, Fleet, weight_bytes
from apps.models.engines.spec import log_path, window
from apps.models.jobs import Job
from apps.models.models import Device, Model
from apps.models.models import Engine as EngineRow
from apps.models.plan import Park, Rules, SlotState, Verb
from apps.models.slots import Slot, describe, machine_memory

LOOK_SECONDS = 0.5  # between two looks at the plan while a job runs
REAP_SECONDS = 5.0
ANEW = "It is started anew for its adapters; answers that have begun end first."
ORDERED = "An operator asked for it. People wake it at once, batches come back to it after a minute."
LEARN_FROM = 5.0  # seconds of a turn; a shorter one says little about a request
STOP_PATIENCE = 2.0  # seconds for requests in flight when the worker has to stop …
PEOPLE_PATIENCE = 10.0  # … when people wait for another model …
PATIENCE = 60.0  # … and when another model's turn has come
LOG_BYTES = 64 * 1024
PROOF = timedelta(minutes=1)  # an engine that ran for so long works
ORDER_REST = timedelta(minutes=1)  # for which batches leave an engine alone that an operator parked

log = logging.getLogger(__name__)


class GpuWorker:
    """An `EngineHost`. What a job does with the engine is the job kind's business."""

    def __init__(self, slot: Slot, held: leases.Held, keeper: leases.Keeper) -> None:
        self.slot, self._keeper = slot, keeper
        for group in held.left_behind.splitlines():
            ProcessGroup.parse(group).reap(REAP_SECONDS)
        self._device, _ = Device.objects.update_or_create(slot=slot.key, defaults={**describe(slot), "seen_at": Now()})
        self._device.engines.update(state=EngineRow.State.STOPPED, message="", socket="", served=[], order="")
        self._fleet = Fleet(slot, self._device, held, keeper)
        self._deaths = Deaths(self._device)
        self._turn_began: datetime | None = None
        self._ready_for_people: datetime | None = None
        self._left: dict[int | None, datetime] = {}
        self._job: Job | None = None  # that runs
        self._looked, self._stay, self._people_wait = 0.0, True, False
        self._ordered: dict[int, datetime] = {}  # model -> when an operator parked its engine

    @property
    def engine(self) -> Engine:
        """The one that is awake, while a job runs."""
        assert self._fleet.awake is not None  # noqa: S101 (for mypy)
        return self._fleet.awake

    def record(self, group: ProcessGroup) -> None:
        self._fleet.record(group)

    def step(self) -> bool:
        """Carry out one action of the plan. False when there is nothing to do, or an engine does not start."""
        self._fleet.tell_truth()  # first: nobody mourns the engine of a deleted model
        self._bury()
        self._obey()
        match self._decide():
            case plan.Serve(job):
                return self._run(job)
            case plan.Switch(job, park, evict):
                return self._switch(job, park, evict) and self._run(job)
            case plan.Idle():
                return False

    def close(self) -> None:
        self._fleet.close()

    def must_stop(self) -> bool:
        return self._fleet.must_stop()

    def go_on(self) -> bool:
        return not self.must_stop() and self._may_stay()

    def patience(self) -> float:
        if self.must_stop():
            return STOP_PATIENCE
        return PEOPLE_PATIENCE if self._people_wait else PATIENCE

    def restart(self, *, explained: bool = False) -> bool:
        model = self._fleet.model
        if model is None:
            return False
        turn = self._turn_began  # which goes on, or a model whose engine dies often would keep the slot
        self._failed("The engine died while it answered requests; they are sent again.", model, explained=explained)
        if (not explained and model.pk in broken_models()) or not self._start(model):
            return False
        self._turn_began = turn
        self._fleet.show(EngineRow.State.BUSY)
        return True

    def explain(self) -> None:
        if self._fleet.model and self._turn_began:
            self._deaths.explain(self._fleet.model, since=timezone.now() - self._turn_began)

    def _decide(self, running: Job | None = None) -> plan.Action:
        waiting = self._backlog()
        return plan.decide(
            [*waiting, running] if running else waiting,
            slot=self._state(),
            costs=costs.costs_of(self._device),
            rules=Rules(
                quantum=settings.MODEL_QUANTUM_SECONDS,
                staleness=settings.MODEL_STALENESS_SECONDS,
                linger=settings.INTERACTIVE_LINGER_SECONDS,
            ),
        )

    def _backlog(self) -> list[Job]:
        """Without models that rest or whose breaker is open, so that they keep no other from its turn."""
        broken, lately = broken_models(), timezone.now() - ORDER_REST
        parked = {model_id for model_id, at in self._ordered.items() if at > lately}

        def waits(job: Job) -> bool:
            if job.model_id in broken or (job.model_id in parked and not job.urgent):
                return False
            return job.model_id is None or not self._deaths.rests(job.model_id)

        return [job for job in jobs.backlog() if waits(job)]

    def _state(self) -> SlotState:
        model, awake = self._fleet.model, self._fleet.awake
        return SlotState(
            now=timezone.now(),
            awake=model.pk if model else None,
            turn_began=self._turn_began,
            used_at=self._used_at(model.pk) if model else None,
            left=self._left,
            can_sleep=awake is not None and awake.can_sleep,
            asleep=self._fleet.asleep,
            awake_bytes=weight_bytes(model) if model else 0,
            sleep_budget=settings.SLEEP_MEMORY_GIB * 2**30 or machine_memory() // 2,
        )

    def _used_at(self, model_id: int) -> datetime | None:
        """Those for whom it was started may not have sent yet."""
        moments = [self._ready_for_people, demand.last_used(model_id)]
        return max((moment for moment in moments if moment), default=None)

    def _may_stay(self) -> bool:
        """Looked at once a second: no order, nobody else's turn, no adapter that has yet to be loaded or unloaded."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            ordered = self._device.engines.exclude(order="").exists()
            action = self._decide(self._job)
            self._people_wait = isinstance(action, plan.Switch) and action.job.urgent
            self._stay = not ordered and self._fleet.is_adapted() and self._is_next(action)
            self._looked = time.monotonic()
        return self._stay

    def _is_next(self, action: plan.Action) -> bool:
        """Whether the job that runs is what the plan wants to go on."""
        match action:
            case plan.Serve(job):
                return self._job is None or job.kind == self._job.kind
            case plan.Switch():
                return False
            case plan.Idle():
                return True

    def _switch(self, job: Job, park: Park, evict: tuple[int, ...]) -> bool:
        """Make room for a job, and its engine ready. False: another slot has done so, or it does not start."""
        if job.urgent and job.model_id and not demand.claim(job.model_id, self._device):
            return False
        self._fleet.evict(evict)
        self._park(park)
        if job.model_id is None:
            self._turn_began = timezone.now()
            return True
        if not self._start(Model.objects.get(pk=job.model_id)):
            return False
        self._ready_for_people = timezone.now() if job.urgent else None
        return True

    def _park(self, how: Park, message: str = "") -> None:
        self._leave()
        model = self._fleet.model
        if model and not self._fleet.park(how, message):
            self._failed("The engine died while it finished what it had begun.", model)

    def _leave(self) -> None:
        self._ready_for_people = None
        if self._turn_began:
            self._left[self._fleet.model.pk if self._fleet.model else None] = timezone.now()
        self._turn_began = None

    def _start(self, model: Model) -> bool:
        """Wake or start its engine; False when that fails (the plan comes back to it)."""
        if model.pk in self._fleet.asleep:
            try:
                self._fleet.wake(model)
            except EngineFailed as error:
                self._failed(f"{error} It is started anew.", model, explained=isinstance(error, CanaryDiffers))
        try:
            if self._fleet.model is None and not self._start_anew(model):
                return False
        except (Error, psycopg.Error, leases.Fenced):
            raise
        except Exception as error:  # or the plan would come back to it for ever, before all others
            log.exception("The engine of %s cannot be started", model)
            self._failed(f"Its engine could not be started: {plain(error)}.", model)
            return False
        self._turn_began = timezone.now()
        return True

    def _start_anew(self, model: Model) -> bool:
        """An adapter that costs the engine its life is left out of the next one."""
        untried = adapters.on_trial(model)
        while True:
            try:
                self._fleet.start(model)
            except AdapterKilledEngine as error:
                self._blame(error)
            except (EngineFailed, OSError, ValueError) as error:  # the last: settings that no engine takes
                if self.must_stop():  # which says nothing about the model
                    self._fleet.show(EngineRow.State.STOPPED, model=model)
                    return False
                hopeless = isinstance(error, FilesDamaged)
                if untried and not hopeless and self._start_without(model, untried, str(error)):
                    return True
                self._failed(str(error), model, explained=getattr(error, "explained", True), hopeless=hopeless)
                return False
            else:
                return True

    def _start_without(self, model: Model, untried: list[Ranked], problem: str) -> bool:
        """Whether it starts once there is no room for adapters that have yet to answer: then they are the cause."""
        log.warning("%s: %s starts once more, without adapters on trial: %s", self.slot.key, model, problem)
        try:
            self._fleet.start(model, trials=False)
        except AdapterKilledEngine as error:
            self._blame(error)
            return False
        except (EngineFailed, OSError, ValueError):
            return False
        for ranked in untried:
            reason = f"The engine of {model.name} does not start with room for its rank of {ranked.rank}: {problem}"
            adapters.refuse(model, ranked.adapter, reason)
        return True

    def _blame(self, error: AdapterKilledEngine) -> None:
        """The adapter's death, not the model's: the engine comes back at once, without it."""
        log.error("%s: %s", self.slot.key, error)
        self._leave()
        self._fleet.drop()
        lines = _last_lines(log_path(error.base, self.slot))[-LOG_LINES:]
        adapters.blame(error.base, error.adapter, self._device, str(error), lines)

    def _run(self, job: Job) -> bool:
        """Lend the engine to a job until it has no more to do, or has to stop."""
        model = self._fleet.model
        if model is not None and not self._is_adapted(model):
            return False
        self._job, self._looked, self._stay, self._people_wait = job, time.monotonic(), True, False
        before, began = self._waiting(job), time.monotonic()
        if model is not None and not job.urgent:
            self._fleet.show(EngineRow.State.BUSY)
        try:
            jobs.kind(job.kind).run(self, self._keeper, window(model, self.slot) if model else 0)
        finally:
            self._job = None
        if model is not None and self._fleet.model is not None:
            self._fleet.show(EngineRow.State.READY)
            self._learn(job, model, before - self._waiting(job), time.monotonic() - began)
            if not job.urgent:
                self._deaths.survived(self._fleet.model)
        if job.model_id is None:
            self._leave()
        return True

    def _is_adapted(self, model: Model) -> bool:
        """Every adapter is served that can be; where the engine has no room for one, another is started that has."""
        while True:
            try:
                if self._fleet.adapt(model):
                    return True
            except AdapterKilledEngine as error:
                self._blame(error)
            else:
                log.info("%s: %s: %s", self.slot.key, model, ANEW)
                self._park(Park.STOP, ANEW)
            if not self._start(Model.objects.get(pk=model.pk)):
                return False

    def _waiting(self, job: Job) -> int:
        backlog = jobs.kind(job.kind).backlog()
        return sum(waiting.waiting for waiting in backlog if waiting.model_id == job.model_id)

    def _learn(self, job: Job, model: Model, done: int, seconds: float) -> None:
        """Only from a turn that filled the window."""
        if done > window(model, self.slot) and seconds > LEARN_FROM and job.seconds is None:
            costs.record(device=self._device, model=model, verb=Verb.REQUEST, seconds=seconds / done)

    def _obey(self) -> None:
        """What operators ordered."""
        for row in self._device.engines.exclude(order=""):
            if self._fleet.model and row.model_id == self._fleet.model.pk:
                self._park(Park.SLEEP if row.order == EngineRow.Order.SLEEP else Park.STOP, ORDERED)
            elif row.model_id in self._fleet.asleep and row.order == EngineRow.Order.STOP:
                self._fleet.evict([row.model_id], ORDERED)
            self._ordered[row.model_id] = timezone.now()
            self._device.engines.filter(pk=row.pk).update(order="")

    def _bury(self) -> None:
        """Engines that died while nobody looked."""
        model, awake = self._fleet.model, self._fleet.awake
        if model and awake and not awake.alive():
            self._failed("The engine died while it waited.", model)
        elif model and self._turn_began and self._deaths.remembers(model) and self._is_proven():
            self._deaths.survived(model)
        for sleeper in self._fleet.dead():
            self._failed("The engine died while it slept.", sleeper)

    def _is_proven(self) -> bool:
        """Whether the engine that is awake has answered somebody, or has run for long enough."""
        if self._turn_began and timezone.now() - self._turn_began > PROOF:
            return True
        with contextlib.suppress(OSError, HTTPException):
            return self.engine.answered() > 0
        return False

    def _failed(self, message: str, model: Model, *, explained: bool = False, hopeless: bool = False) -> None:
        """Clear the slot, say so, and give whatever broke the model time before the next try."""
        log.error("%s: %s", self.slot.key, message)
        if self._fleet.model == model:
            self._leave()
            self._fleet.drop()
        lines = _last_lines(log_path(model, self.slot))
        message = self._deaths.record(model, message, log=lines, explained=explained, hopeless=hopeless)
        self._fleet.show(EngineRow.State.FAILED, message, model)


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LOG_BYTES, 0))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
