"""One GPU in virtual time: runs a load under a policy, and notes when what had its turn and was done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from random import Random
from typing import NamedTuple

from apps.models.costs import GPU_DEFAULTS, WEIGHT
from apps.models.jobs import Job
from apps.models.plan import Action, Costs, Idle, Park, Rules, Serve, SlotState, Switch, Verb, decide, make_room
from bench.load import GIB, MODELS, Arrival

RULES = Rules(quantum=300, staleness=3600, linger=20)
SLEEP_BUDGET = 96 * GIB
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
LOOK = 120.0  # seconds between looks at the plan while nothing happens; a worker looks much more often
NOISE = 0.15  # sigma of the logarithm of what a switch really takes, around the model's mean

Policy = Callable[..., Action]


@dataclass(slots=True, eq=False)
class Work:
    """An arrival on its way."""

    arrival: Arrival
    job: Job
    left: float
    """Seconds."""
    turn: float | None = None
    """When its model's engine was ready for it."""
    done: float | None = None

    @property
    def waited(self) -> float:
        """Seconds until its model had its turn."""
        assert self.turn is not None
        return self.turn - self.arrival.at

    @property
    def took(self) -> float:
        """Seconds until it was done."""
        assert self.done is not None
        return self.done - self.arrival.at


class Stretch(NamedTuple):
    """Of time, in which the device worked for a model, or switched to it."""

    begin: float
    end: float
    model_id: int | None
    switch: bool


@dataclass(slots=True)
class Outcome:
    works: list[Work] = field(default_factory=list)
    strip: list[Stretch] = field(default_factory=list)

    @property
    def busy(self) -> float:
        """Seconds in which the device worked or switched."""
        return sum(stretch.end - stretch.begin for stretch in self.strip)

    @property
    def switches(self) -> int:
        return sum(stretch.switch for stretch in self.strip)


class Simulation:
    """`sleep`: whether the platform can. The costs of switches are random, and learned as they are seen."""

    def __init__(
        self, load: Sequence[Arrival], policy: Policy, *, sleep: bool, seed: int, rules: Rules = RULES
    ) -> None:
        self._coming = [Work(one, _job(one), _seconds(one)) for one in reversed(load)]
        self._policy, self._rules, self._random = policy, rules, Random(seed)
        self._waiting: dict[int, Work] = {}  # by the identity of its job
        self._now = 0.0
        self._left: dict[int | None, datetime] = {}
        self._slot = SlotState(now=MIDNIGHT, left=self._left, can_sleep=sleep, sleep_budget=SLEEP_BUDGET)
        self._learned: dict[tuple[int | None, Verb], float] = {
            (model_id, Verb.REQUEST): facts.request for model_id, facts in MODELS.items()
        }
        self._costs = Costs(defaults=GPU_DEFAULTS, learned=self._learned)
        self.outcome = Outcome()

    def run(self) -> Outcome:
        while self._coming or self._waiting:
            self._arrive()
            if not self._waiting:
                self._now = self._coming[-1].arrival.at
                continue
            slot = replace(self._slot, now=_clock(self._now))
            jobs = [work.job for work in self._waiting.values()]
            action = self._policy(jobs, slot=slot, costs=self._costs, rules=self._rules)
            if isinstance(action, Idle):
                self._now = self._next_event(self._now + self._rules.linger)
            elif isinstance(action, Switch):
                self._switch(action)
            else:
                self._work(action.job)
        return self.outcome

    def _next_event(self, at: float) -> float:
        return min(at, self._coming[-1].arrival.at) if self._coming else at

    def _arrive(self) -> None:
        while self._coming and self._coming[-1].arrival.at <= self._now:
            work = self._coming.pop()
            self.outcome.works.append(work)
            self._waiting[id(work.job)] = work
            if self._slot.turn_began and self._slot.awake == work.arrival.model_id:
                self._begin(work, work.arrival.at)

    def _begin(self, work: Work, at: float) -> None:
        """Its model's engine is ready. People are answered at once, beside any batch."""
        if work.turn is None:
            work.turn = at
        if work.job.urgent:
            self._slot = replace(self._slot, used_at=_clock(at))
            self._end(work, at)

    def _end(self, work: Work, at: float) -> None:
        work.done = at
        del self._waiting[id(work.job)]

    def _work(self, job: Job) -> None:
        """Until it is done, something comes, or the plan is looked at again."""
        work = self._waiting.pop(id(job))
        end = self._next_event(self._now + min(work.left, LOOK))
        work.left -= end - self._now
        if work.left < 1e-6:
            work.done = end
        else:
            rate = 1.0 if job.model_id is None else MODELS[job.model_id].request
            left = {"seconds": work.left} if job.model_id is None else {"waiting": ceil(work.left / rate)}
            work.job = replace(job, **left)
            self._waiting[id(work.job)] = work
        self._note(end, job.model_id, switch=False)

    def _switch(self, action: Switch) -> None:
        slot, to = self._slot, action.job.model_id
        asleep, took = dict(slot.asleep), 0.0
        for model_id in action.evict:
            del asleep[model_id]
            took += self._take(model_id, Verb.STOP)
        if slot.awake is not None:
            took += self._take(slot.awake, Verb.SLEEP if action.park is Park.SLEEP else Verb.STOP)
            if action.park is Park.SLEEP:
                asleep[slot.awake] = slot.awake_bytes
        assert sum(asleep.values()) <= slot.sleep_budget
        if slot.turn_began:
            self._left[slot.awake] = _clock(self._now)
        took += self._take(to, Verb.WAKE if to in asleep else Verb.START)
        self._note(self._now + took, to, switch=True)
        asleep.pop(to, 0)  # type: ignore[arg-type]
        self._slot = replace(
            slot, awake=to, turn_began=_clock(self._now), used_at=None, asleep=asleep,
            awake_bytes=int(MODELS[to].gib * GIB) if to else 0,
        )  # fmt: skip
        self._arrive()
        for work in [work for work in self._waiting.values() if work.arrival.model_id == to]:
            self._begin(work, self._now)

    def _take(self, model_id: int | None, verb: Verb) -> float:
        """What a verb takes this time; learned as `apps.models.costs.record` does."""
        mean = GPU_DEFAULTS[verb]
        if model_id is not None and verb is not Verb.STOP:
            facts = MODELS[model_id]
            mean = facts.start if verb is Verb.START else facts.wake
        took = mean * self._random.lognormvariate(0, NOISE)
        before = self._learned.get((model_id, verb), took)
        self._learned[model_id, verb] = before + (took - before) * WEIGHT
        return took

    def _note(self, until: float, model_id: int | None, *, switch: bool) -> None:
        """Like what came right before, it is one stretch with it."""
        strip, begin = self.outcome.strip, self._now
        if strip and not switch and strip[-1][1:] == (begin, model_id, switch):
            begin = strip.pop().begin
        strip.append(Stretch(begin, until, model_id, switch))
        self._now = until


def fifo(jobs: Sequence[Job], *, slot: SlotState, costs: Costs, rules: Rules) -> Action:
    """In order of arrival, a switch whenever the next job's model is another. People go first, as everywhere."""
    return _by(jobs, min(jobs, key=lambda job: (job.since, job.model_id or 0)), slot, costs, rules)


def most_work(jobs: Sequence[Job], *, slot: SlotState, costs: Costs, rules: Rules) -> Action:
    """The model with the most work, until it has none. People go first, as everywhere."""
    amounts: dict[int | None, float] = {}
    for job in jobs:
        amounts[job.model_id] = amounts.get(job.model_id, 0) + costs.work(job)
    if slot.turn_began and slot.awake in amounts:
        amounts[slot.awake] = float("inf")
    head = max(jobs, key=lambda job: (amounts[job.model_id], -job.since.timestamp()))
    return _by(jobs, head, slot, costs, rules)


def _by(jobs: Sequence[Job], head: Job, slot: SlotState, costs: Costs, rules: Rules) -> Action:
    """The head is next, unless people wait or just used the engine: that is the plan's affair under every policy."""
    resident = bool(slot.turn_began)
    in_use = slot.used_at is not None and slot.now - slot.used_at < timedelta(seconds=rules.linger)
    if in_use or any(job.urgent for job in jobs):
        theirs = [job for job in jobs if job.urgent or (resident and job.model_id == slot.awake)]
        return decide(theirs, slot=slot, costs=costs, rules=rules)
    if resident and head.model_id == slot.awake:
        return Serve(head)
    return make_room(head, slot=slot, costs=costs, wanted={job.model_id for job in jobs})


def _clock(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=seconds)


def _seconds(arrival: Arrival) -> float:
    return float(arrival.size) if arrival.model_id is None else arrival.size * MODELS[arrival.model_id].request


def _job(arrival: Arrival) -> Job:
    return Job(
        kind=arrival.kind,
        model_id=arrival.model_id,
        waiting=arrival.size,
        priority=arrival.priority,
        deadline=_clock(arrival.at + arrival.window),
        since=_clock(arrival.at),
        urgent=arrival.kind == "interactive",
        seconds=float(arrival.size) if arrival.model_id is None else None,
    )
