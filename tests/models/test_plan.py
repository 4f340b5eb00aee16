from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.models.jobs import Job
from apps.models.plan import Action, Costs, Idle, Park, Rules, Serve, SlotState, Switch, Verb, decide

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = Rules(quantum=300, staleness=3600, linger=20)
COSTS = Costs(defaults={Verb.START: 60, Verb.WAKE: 3, Verb.SLEEP: 2, Verb.STOP: 0, Verb.REQUEST: 1})
LATEST = 3600 * 0.9 - 60  # seconds that a lone group may have waited when a switch to it has to begin


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def job(model_id: int | None, *, waited: float = 0, waiting: int = 100, deadline: float = 86400, **options: Any) -> Job:
    """By default, a batch of 100 seconds that just came."""
    due = NOW + timedelta(seconds=deadline)
    values: dict[str, Any] = {
        "kind": "batches",
        "priority": 0,
        "deadline": due,
        "since": ago(waited),
        "waiting": waiting,
    }
    return Job(model_id=model_id, **values | options)


def people(model_id: int, *, waited: float = 0) -> Job:
    return job(model_id, waited=waited, waiting=1, kind="interactive", urgent=True)


def slot(awake: int | None = None, *, served: float | None = None, **options: Any) -> SlotState:
    """One whose model has been awake for so many seconds."""
    return SlotState(now=NOW, awake=awake, turn_began=None if served is None else ago(served), **options)


def act(*jobs: Job, on: SlotState, costs: Costs = COSTS, rules: Rules = RULES) -> Action:
    return decide(jobs, slot=on, costs=costs, rules=rules)


def test_it_works() -> None:
    waiting = job(1)
    assert act(waiting, on=slot()) == Switch(waiting, Park.STOP)
    assert act(waiting, on=slot(1, served=0)) == Serve(waiting)
    assert act(waiting, on=slot(2, served=0)) == Switch(waiting, Park.STOP)


def test_it_has_nothing_to_do() -> None:
    assert act(on=slot()) == act(on=slot(1, served=9999)) == Idle()


def test_models_without_an_engine_awake_have_the_highest_response_ratio_first() -> None:
    long, short = job(1, waiting=5000), job(2, waiting=10)
    assert act(replace(long, since=ago(600)), replace(short, since=ago(300)), on=slot()) == Switch(
        replace(short, since=ago(300)), Park.STOP
    )
    assert act(replace(long, since=ago(600)), short, on=slot()) == Switch(replace(long, since=ago(600)), Park.STOP)


def test_a_higher_priority_is_first() -> None:
    important = job(2, priority=1)
    assert act(job(1, waited=900), important, on=slot()) == Switch(important, Park.STOP)
    assert act(job(1), important, on=slot(1, served=299)) == Serve(job(1))
    assert act(job(1), important, on=slot(1, served=300)) == Switch(important, Park.STOP)


def test_the_model_that_is_awake_goes_on_until_another_s_latest_start() -> None:
    mine = job(1, waiting=10_000)
    assert act(mine, job(2, waited=LATEST - 1), on=slot(1, served=3000)) == Serve(mine)
    assert act(mine, job(2, waited=LATEST), on=slot(1, served=3000)) == Switch(job(2, waited=LATEST), Park.STOP)


def test_it_leaves_in_time_for_all_that_wait() -> None:
    """Two switches of 60 s and the first's turn of 100 s come before the third can begin."""
    queue = [job(2, waited=LATEST - 161), job(3, waited=LATEST - 160), job(4, waited=LATEST - 161)]
    assert act(job(1), *queue[:2], on=slot(1, served=900)) == Serve(job(1))
    later = [replace(one, since=one.since - timedelta(seconds=160)) for one in queue]
    assert act(job(1), *later, on=slot(1, served=900)) == Switch(later[1], Park.STOP)


def test_a_model_waits_since_its_last_turn() -> None:
    old = job(2, waited=9000)
    assert act(job(1), old, on=slot(1, served=900, left={2: ago(900)})) == Serve(job(1))
    assert act(job(1), old, on=slot(1, served=900, left={2: ago(LATEST)})) == Switch(old, Park.STOP)


def test_nobody_starves_below_a_higher_priority() -> None:
    low = job(2, waited=LATEST)
    assert act(job(1, priority=9), low, on=slot(1, served=30)) == Switch(low, Park.STOP)


def test_a_turn_is_never_shorter_than_half_the_next_switch() -> None:
    late = job(2, waited=9999)
    assert act(job(1), late, on=slot(1, served=29)) == Serve(job(1))
    assert act(job(1), late, on=slot(1, served=30)) == Switch(late, Park.STOP)


def test_a_deadline_that_comes_near_takes_over_after_the_quantum() -> None:
    near = job(2, waiting=1000, deadline=1060)
    assert act(job(1), replace(near, deadline=NOW + timedelta(seconds=1061)), on=slot(1, served=900)) == Serve(job(1))
    assert act(job(1), near, on=slot(1, served=299)) == Serve(job(1))
    assert act(job(1), near, on=slot(1, served=300)) == Switch(near, Park.STOP)


def test_the_work_before_a_deadline_counts() -> None:
    """A model's batches are served by deadline: the second's latest start leaves time for the first."""
    first, second = job(2, waiting=500, deadline=5000), job(2, waiting=500, deadline=1060 + 60)
    assert act(job(1), first, second, on=slot(1, served=900)) == Serve(job(1))
    between = job(2, waiting=60, deadline=1000)
    third = job(2, waiting=1000, deadline=1120)
    assert act(job(1), between, third, on=slot(1, served=900)) == Switch(between, Park.STOP)


def test_the_awake_model_s_own_nearer_deadline_keeps_it() -> None:
    mine, other = job(1, waiting=500, deadline=400), job(2, waiting=500, deadline=600)
    assert act(mine, other, on=slot(1, served=900)) == Serve(mine)


def test_the_free_choice_leaves_time_for_those_who_wait() -> None:
    """A high response ratio is passed over when its turn would make another late."""
    hurried, stale = job(1, priority=1, waiting=1000), job(2, waited=LATEST - 359)
    assert act(hurried, stale, on=slot()) == Switch(stale, Park.STOP)
    assert act(hurried, job(2, waited=LATEST - 360), on=slot()) == Switch(hurried, Park.STOP)


def test_people_go_first() -> None:
    asking = people(2)
    assert act(job(1, priority=9), asking, on=slot(1, served=29)) == Serve(job(1, priority=9))
    assert act(job(1, priority=9), asking, on=slot(1, served=30)) == Switch(asking, Park.STOP)
    assert act(asking, on=slot(1, served=0)) == Switch(asking, Park.STOP)  # nobody has a use for the other


def test_who_asked_first_is_first() -> None:
    asked, later = people(3, waited=8), people(2, waited=5)
    assert act(later, asked, on=slot()) == Switch(asked, Park.STOP)


def test_people_s_model_serves_batches_beside() -> None:
    asking, batch = people(1), job(1)
    assert act(batch, asking, on=slot(1, served=5)) == Serve(asking)
    assert act(batch, on=slot(1, served=5, used_at=NOW)) == Serve(batch)


def test_an_engine_that_people_just_used_stays() -> None:
    used = slot(1, served=900, used_at=ago(19))
    assert act(job(2), on=used) == Idle()
    assert act(job(2), on=replace(used, used_at=ago(20))) == Switch(job(2), Park.STOP)
    assert act(job(2), on=slot(None, served=None, used_at=ago(1))) == Switch(job(2), Park.STOP)  # it died


def test_people_keep_nobody_from_his_turn() -> None:
    late = job(2, waited=LATEST + 10)
    assert act(late, people(3, waited=9), on=slot(1, served=900, used_at=NOW)) == Switch(late, Park.STOP)


def test_the_bare_device_is_a_turn_like_any_other() -> None:
    training = job(None, kind="training", seconds=7200)
    sleepers = {1: 5, 2: 5}
    before = slot(3, served=9, asleep=sleepers, can_sleep=True, sleep_budget=100)
    assert act(training, on=before) == Switch(training, Park.STOP, (1, 2))
    assert act(training, job(1), on=slot(None, served=900)) == Serve(training)
    assert act(training, job(1, waited=9999), on=slot(None, served=900)) == Switch(job(1, waited=9999), Park.STOP)
    old, new = replace(training, since=ago(60)), job(1, waited=60)
    assert act(old, new, on=slot()) == Switch(new, Park.STOP)  # nobody's turn: no advantage


def test_the_outgoing_engine_sleeps_where_it_can() -> None:
    able = slot(1, served=900, can_sleep=True, awake_bytes=60, sleep_budget=100)
    assert act(job(2), on=able) == Switch(job(2), Park.SLEEP)
    assert act(job(2), on=replace(able, sleep_budget=59)) == Switch(job(2), Park.STOP)
    assert act(job(2), on=replace(able, can_sleep=False)) == Switch(job(2), Park.STOP)
    slow = Costs(defaults={**COSTS.defaults, Verb.WAKE: 90})
    assert act(job(2), on=able, costs=slow) == Switch(job(2), Park.STOP)


def test_sleepers_that_are_missed_least_make_room() -> None:
    """1 is put to sleep for 2. 3 has work; 5 spares as much as 4 does, in less memory."""
    able = slot(1, served=900, can_sleep=True, awake_bytes=10, asleep={3: 40, 4: 40, 5: 20}, sleep_budget=100)
    work = [job(2, waited=999), job(3)]
    assert act(*work, on=able) == Switch(work[0], Park.SLEEP, (4,))
    assert act(*work, on=replace(able, sleep_budget=60)) == Switch(work[0], Park.SLEEP, (4, 5))
    assert act(*work, on=replace(able, sleep_budget=49)) == Switch(work[0], Park.STOP)


def test_the_engine_that_wakes_is_not_evicted_and_takes_its_memory_meanwhile() -> None:
    able = slot(1, served=900, can_sleep=True, awake_bytes=60, asleep={2: 50}, sleep_budget=100)
    assert act(job(2), on=able) == Switch(job(2), Park.STOP)
    assert act(job(2), on=replace(able, sleep_budget=110)) == Switch(job(2), Park.SLEEP)


@pytest.mark.parametrize("odd", [{"waiting": 0}, {"deadline": -99}, {"waited": -50}, {"seconds": 0.0}])
def test_it_survives_odd_jobs(odd: dict[str, Any]) -> None:
    free = Costs(defaults=dict.fromkeys(Verb, 0.0))
    for state in (slot(), slot(1, served=0), slot(2, served=9999)):
        assert not isinstance(act(job(1, **odd), on=state, costs=free), Idle)


def test_thousands_of_jobs_are_no_trouble() -> None:
    random = Random(0)
    jobs = [job(random.randint(1, 50), waited=random.random() * 9999) for _ in range(10_000)]
    began = process_time()
    act(*jobs, on=slot(1, served=900))
    assert process_time() - began < 1


MODELS = st.sampled_from([1, 2, 3, 4, None])
JOBS = st.lists(
    st.builds(
        job,
        MODELS,
        waited=st.floats(0, 9999),
        waiting=st.integers(0, 9999),
        deadline=st.floats(-9999, 99_999),
        priority=st.integers(-2, 2),
        urgent=st.booleans(),
    ),
    max_size=12,
)
SLOTS = st.builds(
    slot,
    st.sampled_from([1, 2, 3, 4]),
    served=st.floats(0, 9999),
    used_at=st.none() | st.floats(0, 60).map(ago),
    left=st.dictionaries(MODELS, st.floats(0, 9999).map(ago)),
    can_sleep=st.booleans(),
    asleep=st.dictionaries(st.sampled_from([5, 6, 7]), st.integers(1, 60)),
    awake_bytes=st.integers(0, 60),
    sleep_budget=st.integers(0, 200),
)


@given(JOBS, SLOTS, st.randoms())
def test_equal_situations_have_equal_actions(jobs: list[Job], on: SlotState, random: Random) -> None:
    shuffled = random.sample(jobs, len(jobs))
    first, second = act(*jobs, on=on), act(*shuffled, on=on)
    if isinstance(first, Idle) or isinstance(second, Idle):
        assert first == second
    else:
        assert type(first) is type(second)
        assert first.job.model_id == second.job.model_id


@given(JOBS, SLOTS)
def test_a_switch_is_not_taken_back(jobs: list[Job], on: SlotState) -> None:
    """Whatever waits, the model that was switched to is served at once, and for the least turn."""
    action = act(*jobs, on=on)
    if isinstance(action, Switch):
        for served in (0, RULES.linger - 1):
            after = replace(on, awake=action.job.model_id, turn_began=ago(served), used_at=None)
            again = act(*jobs, on=after)
            assert isinstance(again, Serve)
            assert again.job.model_id == action.job.model_id


@given(JOBS, SLOTS)
def test_sleepers_fit_in_their_memory(jobs: list[Job], on: SlotState) -> None:
    action = act(*jobs, on=on)
    if isinstance(action, Switch):
        assert set(action.evict) <= on.asleep.keys() - {action.job.model_id}
        left = sum(size for model_id, size in on.asleep.items() if model_id not in action.evict)
        assert action.park is Park.STOP or left + on.awake_bytes <= on.sleep_budget
