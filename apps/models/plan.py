"""What a slot does next: a pure function, so that it can be reasoned about and simulated (`bench/scheduler.py`)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from apps.models.jobs import Job

RESERVE = 0.1  # of the staleness bound, for costs that turn out higher and looks at the plan that come late
RESIDENCY = 0.5  # of the cost of a switch: the least time for which a model is kept, whoever waits for another


class Verb(StrEnum):
    """What costs time on a device; `Timing.Verb` has the same values."""

    START = "start"
    WAKE = "wake"
    SLEEP = "sleep"
    STOP = "stop"
    REQUEST = "request"


class Park(StrEnum):
    """What becomes of the engine that makes room."""

    SLEEP = "sleep"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds that a verb takes on one device: learned for a model, else the device's default."""

    defaults: Mapping[Verb, float]
    learned: Mapping[tuple[int | None, Verb], float] = field(default_factory=dict)

    def of(self, model_id: int | None, verb: Verb) -> float:
        known = self.learned.get((model_id, verb))
        return self.defaults[verb] if known is None else known

    def work(self, job: Job) -> float:
        """Seconds that are left of a job."""
        return job.waiting * self.of(job.model_id, Verb.REQUEST) if job.seconds is None else job.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All in seconds."""

    quantum: float
    """A model with work is served at least, unless people wait for another, or another has to begin its turn."""
    staleness: float
    """A job waits for its model's turn at most."""
    linger: float
    """An engine that answered people is kept for, in case they go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """What a slot has and remembers."""

    now: datetime
    awake: int | None = None
    """The model whose engine runs. None with a turn: the bare device's turn."""
    turn_began: datetime | None = None
    """When the engine that is awake got ready, or the bare device free. None: nobody's turn, the slot is empty."""
    used_at: datetime | None = None
    """When people last asked the engine that is awake, or it was woken or started for them."""
    left: Mapping[int | None, datetime] = field(default_factory=dict)
    """When each model's last turn ended here: its jobs wait since then, or since they came."""
    can_sleep: bool = False
    asleep: Mapping[int, int] = field(default_factory=dict)
    """Sleeping engines' models, and the bytes of the machine's memory that each takes."""
    awake_bytes: int = 0
    """What the engine that is awake would take, asleep."""
    sleep_budget: int = 0
    """Bytes that sleeping engines may take together."""


@dataclass(frozen=True, slots=True)
class Serve:
    """The engine that is awake, or the bare device, is the job's: work on it."""

    job: Job


@dataclass(frozen=True, slots=True)
class Switch:
    """Stop the engines of `evict`, park the one that is awake, wake or start the job's, and serve the job."""

    job: Job
    park: Park
    evict: tuple[int, ...] = ()
    """Sleeping engines to stop, for their memory."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do, or nothing yet: an engine that people just used is kept warm for them."""


Action = Serve | Switch | Idle


class _Start(NamedTuple):
    """When something has to begin at the latest, in seconds from now, and how long it keeps the device."""

    latest: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The jobs of one engine, in the order in which they are served."""

    model_id: int | None
    jobs: tuple[Job, ...]
    priority: int
    waited: float
    """Seconds since its last turn, or since the oldest job came."""
    people: float
    """Seconds that people wait for it; 0: nobody does."""
    cost: float
    """Seconds of the switch to it."""
    service: float
    """Seconds of the switch and all its work."""
    turn: _Start
    """For staleness, or because people wait."""
    finish: _Start
    """For the job whose deadline is tightest."""

    @property
    def order(self) -> tuple[float, float, int]:
        return self.turn.latest, -self.people, self.model_id or 0

    @property
    def response_ratio(self) -> float:
        return (self.waited + self.service) / max(self.service, 1e-9)


def decide(jobs: Sequence[Job], *, slot: SlotState, costs: Costs, rules: Rules) -> Action:
    """The next action for a slot, given what waits and, while one runs, the job that runs.

    Jobs of one engine are one group: switching between adapters of a base is free. A group has to begin its turn when
    `staleness`, less a reserve, is over since it came or had its last turn; at once when people wait. It has to begin
    its work when a deadline leaves just the time for it. Lined up by these latest starts, groups are *due* when the
    first must begin now for all to begin in time, each behind the switches and turns before it. The first that applies:

    1. A model with work, or that people used, keeps the device for `linger`, and half of what a switch costs.
    2. When turns are due, the first takes over, whatever the priorities: nobody starves.
    3. A model that people used within `linger` stays; one with work, for its quantum.
    4. When deadlines are due, the first takes over.
    5. A group of a higher priority takes over.
    6. The model that is awake goes on until it has no work.
    7. Of those with the highest priority, that with the highest response ratio, (wait + service) / service; but the
       first that has to begin a turn, when it could not wait for the other's.

    So every job begins within `staleness`, if the switches and least turns (rule 1) of all models fit in nine tenths
    of it, and those of one model, or of all while people keep asking for others, in the last tenth: whatever else
    comes. O(n log n) in the jobs; equal input, equal action.
    """
    groups = _groups(jobs, slot, costs, rules)
    resident = groups.pop(slot.awake, None) if slot.turn_began else None
    queue = sorted(groups.values(), key=lambda group: group.order)
    chosen = _next(queue, resident, slot, rules)
    if chosen and chosen is not resident:
        wanted = {group.model_id for group in (*queue, resident) if group}
        return make_room(chosen.jobs[0], slot=slot, costs=costs, wanted=wanted)
    return Serve(resident.jobs[0]) if resident else Idle()


def _groups(jobs: Sequence[Job], slot: SlotState, costs: Costs, rules: Rules) -> dict[int | None, _Group]:
    by_model: dict[int | None, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (not job.urgent, -job.priority, job.deadline, job.since, job.kind)):
        by_model.setdefault(job.model_id, []).append(job)
    return {model_id: _group(waiting, slot, costs, rules) for model_id, waiting in by_model.items()}


def _group(jobs: list[Job], slot: SlotState, costs: Costs, rules: Rules) -> _Group:
    """A group of its jobs, in their order."""
    model_id = jobs[0].model_id
    here = slot.turn_began is not None and slot.awake == model_id
    cost = 0.0 if here else _leave(slot, costs) + _enter(model_id, slot, costs)
    came = min(job.since for job in jobs)
    waited = _ago(max(came, slot.left.get(model_id, came)), slot)
    end, finish = cost, _Start(float("inf"), 0.0)
    for job in jobs:
        end += costs.work(job)
        latest = (job.deadline - slot.now).total_seconds() - end
        if latest < finish.latest:
            finish = _Start(latest, end)
    least = _least_turn(cost, rules)
    stale = rules.staleness * (1 - RESERVE) - waited - cost
    return _Group(
        model_id=model_id,
        jobs=tuple(jobs),
        priority=max(job.priority for job in jobs),
        waited=waited,
        people=max((_ago(job.since, slot) for job in jobs if job.urgent), default=0.0),
        cost=cost,
        service=end,
        turn=_Start(min(stale, 0.0) if jobs[0].urgent else stale, cost + max(least, min(rules.quantum, end - cost))),
        finish=finish,
    )


def _next(queue: list[_Group], resident: _Group | None, slot: SlotState, rules: Rules) -> _Group | None:
    """The group that has the device from now on. `queue`: all but the resident, by the latest starts of their turns."""
    if not queue:
        return resident
    in_use = slot.turn_began is not None and _ago(slot.used_at, slot) < rules.linger
    served = _ago(slot.turn_began, slot) if resident or in_use else float("inf")
    if served < _least_turn(queue[0].cost, rules):
        return resident
    if _slack(group.turn for group in queue) <= 0:
        return queue[0]
    if in_use or served < rules.quantum:
        return resident
    by_deadline = sorted([*queue, resident] if resident else queue, key=lambda group: group.finish)
    if _slack(group.finish for group in by_deadline) <= 0:
        return by_deadline[0]
    higher = [group for group in queue if not resident or group.priority > resident.priority]
    return _best(higher, queue) if higher else resident


def _best(candidates: list[_Group], queue: list[_Group]) -> _Group:
    """The highest response ratio of the highest priority, if all others can wait for its turn."""
    best = max(candidates, key=lambda group: (group.priority, group.response_ratio))
    slack = _slack(group.turn for group in queue if group is not best)
    return best if slack >= best.turn.seconds else queue[0]


def _slack(starts: Iterable[_Start]) -> float:
    """Seconds until the first must begin, so that all can begin in time, one after the other."""
    slack, busy = float("inf"), 0.0
    for start in starts:
        slack = min(slack, start.latest - busy)
        busy += start.seconds
    return slack


def _least_turn(cost: float, rules: Rules) -> float:
    """How long a model is kept, whoever waits: else engines would change places all the time."""
    return max(rules.linger, cost * RESIDENCY)


def _ago(moment: datetime | None, slot: SlotState) -> float:
    """Seconds; without end for what never was."""
    return (slot.now - moment).total_seconds() if moment else float("inf")


def _enter(model_id: int | None, slot: SlotState, costs: Costs) -> float:
    return costs.of(model_id, Verb.WAKE if model_id in slot.asleep else Verb.START)


def _leave(slot: SlotState, costs: Costs) -> float:
    if slot.awake is None:
        return 0.0
    return costs.of(slot.awake, Verb.SLEEP if slot.can_sleep else Verb.STOP)


def make_room(job: Job, *, slot: SlotState, costs: Costs, wanted: Collection[int | None]) -> Switch:
    """How the device is made free for a job: whether the engine that is awake falls asleep, and who is stopped for it.

    Asleep, it takes the place of engines that nobody waits for, and of those that are missed less.
    """
    if job.model_id is None:
        return Switch(job, Park.STOP, tuple(sorted(slot.asleep)))
    if slot.awake is None or not slot.can_sleep or _loss(slot.awake, costs) <= 0:
        return Switch(job, Park.STOP)

    def worth(model_id: int) -> tuple[bool, float, int]:
        size = slot.asleep.get(model_id, slot.awake_bytes)
        return model_id in wanted, _loss(model_id, costs) / max(size, 1), model_id

    lacking = sum(slot.asleep.values()) + slot.awake_bytes - slot.sleep_budget
    evict: list[int] = []
    for model_id in sorted(slot.asleep.keys() - {job.model_id}, key=worth):
        if lacking <= 0 or worth(model_id) > worth(slot.awake):
            break
        evict.append(model_id)
        lacking -= slot.asleep[model_id]
    return Switch(job, Park.STOP) if lacking > 0 else Switch(job, Park.SLEEP, tuple(evict))


def _loss(model_id: int, costs: Costs) -> float:
    """Seconds lost when it is stopped instead of asleep."""
    asleep = costs.of(model_id, Verb.SLEEP) + costs.of(model_id, Verb.WAKE)
    return costs.of(model_id, Verb.STOP) + costs.of(model_id, Verb.START) - asleep
