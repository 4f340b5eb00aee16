"""What a slot does next: a pure function, so that it can be reasoned about and simulated (`bench/scheduler.py`)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import accumulate

from apps.models.jobs import Job

RESERVE = 0.1  # of the staleness bound, for costs that turn out higher and looks at the plan that come late
RESIDENCY = 0.5  # of the cost of a switch: the least time a model is kept before people who wait for another


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
        return self.learned.get((model_id, verb), self.defaults[verb])

    def work(self, job: Job) -> float:
        """Seconds that are left of a job."""
        return job.waiting * self.of(job.model_id, Verb.REQUEST) if job.seconds is None else job.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All in seconds."""

    quantum: float
    """Served at least, once begun, unless it runs out of work or people wait for another model."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The jobs of one engine, in the order in which they are served; times are seconds from now."""

    model_id: int | None
    jobs: tuple[Job, ...]
    priority: int
    waited: float
    """Since its last turn, or since the oldest job came."""
    work: float
    cost: float
    """Of a switch to it."""
    latest: float
    """When its turn has to begin."""
    turn: float
    """How long that turn has to last."""

    @property
    def urgent(self) -> bool:
        return self.jobs[0].urgent

    @property
    def order(self) -> tuple[float, int]:
        return self.latest, self.model_id or 0

    @property
    def response_ratio(self) -> float:
        service = self.cost + self.work
        return (self.waited + service) / max(service, 1e-9)


def decide(jobs: Sequence[Job], *, slot: SlotState, costs: Costs, rules: Rules) -> Action:
    """The next action for a slot, given what waits and, while one runs, the job that runs.

    Jobs of one engine are one group: switching between adapters of a base is free. Every group has a *latest start*:
    for people, the moment they came; for others, `staleness` (less a reserve) after they came or had their last turn,
    or when their deadline leaves just the time for their work. Those that wait form a queue in this order. It is *due*
    when its first must begin now, so that each of it can begin in time, behind the switches and turns before it.

    1. The model that is awake keeps the device for its quantum, while it has work; only half a switch (and `linger`)
       when people wait for another model; `linger` after people last used it.
    2. Then the first of the queue takes over if the queue is due, whatever the priorities: nobody starves.
    3. Else a group of a higher priority takes over.
    4. Else the model that is awake goes on until it has no work.
    5. Then the highest response ratio, (wait + service) / service, of the highest priority; unless its turn
       would make another late: then the first of the queue.

    Every job begins within `staleness` if switches and quanta of all models that wait, one more, and the minimal
    turns of people in between fit in it. O(n log n) in the jobs, deterministic.
    """
    groups = _groups(jobs, slot, costs, rules)
    resident = groups.pop(slot.awake, None) if slot.turn_began else None
    queue = sorted(groups.values(), key=lambda group: group.order)
    chosen = _next(queue, resident, slot, rules)
    if chosen:
        wanted = {group.model_id for group in (*queue, resident) if group}
        return make_room(chosen.jobs[0], slot=slot, costs=costs, wanted=wanted)
    return Serve(resident.jobs[0]) if resident else Idle()


def choose(jobs: Sequence[Job], *, resident: int | None, quantum_over: bool) -> Job | None:
    """The job to serve: highest priority, then the resident model (until its quantum is over), then who waits longest.

    `resident` is the id of the model whose engine is warm on this slot. Swapping costs a cold start, so equal jobs
    never swap it out before its quantum ends.
    """

    def rank(job: Job) -> tuple[int, bool, float]:
        keeps_engine = job.model_id == resident and not quantum_over
        return (-job.priority, not keeps_engine, job.since.timestamp())

    return min(jobs, key=rank, default=None)


def _groups(jobs: Sequence[Job], slot: SlotState, costs: Costs, rules: Rules) -> dict[int | None, _Group]:
    by_model: dict[int | None, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (not job.urgent, -job.priority, job.deadline, job.since, job.kind)):
        by_model.setdefault(job.model_id, []).append(job)
    return {model_id: _group(waiting, slot, costs, rules) for model_id, waiting in by_model.items()}


def _group(jobs: list[Job], slot: SlotState, costs: Costs, rules: Rules) -> _Group:
    """A group of its jobs, in their order. Of its reasons to begin, that with the earliest latest start counts."""
    model_id = jobs[0].model_id
    cost = _leave(slot, costs) + _enter(model_id, slot, costs)
    ends = list(accumulate(costs.work(job) for job in jobs))  # when each is done, from the start of the turn
    came = min(job.since for job in jobs)
    waited = _ago(max(came, slot.left.get(model_id, came)), slot)
    reasons = [(rules.staleness * (1 - RESERVE) - waited - cost, min(rules.quantum, ends[-1]))]
    reasons += [(-_ago(job.deadline, slot) - end - cost, end) for job, end in zip(jobs, ends, strict=True)]
    people = [_ago(job.since, slot) for job in jobs if job.urgent]
    if people:
        reasons = [(-max(people), _least_turn(cost, rules))]
    latest, turn = min(reasons)
    return _Group(
        model_id=model_id,
        jobs=tuple(jobs),
        priority=max(job.priority for job in jobs),
        waited=waited,
        cost=cost,
        work=ends[-1],
        latest=latest,
        turn=turn,
    )


def _next(queue: list[_Group], resident: _Group | None, slot: SlotState, rules: Rules) -> _Group | None:
    """The group that takes over now. None: nobody."""
    if not queue:
        return None
    in_use = slot.turn_began is not None and _ago(slot.used_at, slot) < rules.linger
    if resident or in_use:
        people = in_use or any(group.urgent for group in queue)
        if _ago(slot.turn_began, slot) < (_least_turn(queue[0].cost, rules) if people else rules.quantum):
            return None
    if _slack(queue) <= 0:
        return queue[0]
    if in_use:
        return None
    return _best([group for group in queue if not resident or group.priority > resident.priority], queue)


def _best(candidates: list[_Group], queue: list[_Group]) -> _Group | None:
    """The highest response ratio of the highest priority, if all others can wait for its turn."""
    if not candidates:
        return None
    best = max(candidates, key=lambda group: (group.priority, group.response_ratio, group.order))
    others = [group for group in queue if group is not best]
    return best if _slack(others) >= best.cost + best.turn else queue[0]


def _slack(queue: list[_Group]) -> float:
    """Seconds until the first of the queue must begin, so that all of it can begin in time."""
    slack, busy = float("inf"), 0.0
    for group in queue:
        slack = min(slack, group.latest - busy)
        busy += group.cost + group.turn
    return slack


def _least_turn(cost: float, rules: Rules) -> float:
    """How long a model is kept before people who wait for another: engines would change places all the time."""
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
        return model_id in wanted, _loss(model_id, costs), model_id

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
