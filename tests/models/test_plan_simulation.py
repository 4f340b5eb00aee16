"""The real plan in virtual time (bench/simulation.py): what docs/benchmarks.md says of it, on fewer seeds."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.models.plan import decide
from bench.load import HOUR, MODELS, Arrival
from bench.scheduler import LEAST_SAVING, SCENARIOS, outcome
from bench.simulation import RULES, Outcome, Simulation

SEEDS = range(20)
EARLIEST = RULES.staleness / 5  # seconds: six models that wait, with a switch and a quantum each, leave more


def longest(outcome: Outcome) -> float:
    return max(work.waited for work in outcome.works if not work.job.urgent)


def test_it_works() -> None:
    """A mixed backlog takes at most 0.7 of the time that it takes in order of arrival, whatever the seed."""
    for seed in SEEDS:
        ours, theirs = outcome("backlog", "plan", seed=seed), outcome("backlog", "arrival", seed=seed)
        assert len(ours.works) == len(theirs.works)
        assert ours.busy <= LEAST_SAVING * theirs.busy


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nobody_waits_past_the_bound(scenario: str) -> None:
    for seed in SEEDS:
        ours = outcome(scenario, "plan", seed=seed)
        assert longest(ours) <= RULES.staleness
        assert all(work.took <= work.arrival.window for work in ours.works)


def test_the_bound_is_the_plan_s_work() -> None:
    """Without it the same load waits for hours."""
    for policy in ("arrival", "most work"):
        assert max(longest(outcome("day", policy, seed=seed)) for seed in SEEDS) > 2 * RULES.staleness


def test_the_same_seed_is_the_same_day() -> None:
    assert outcome("day", "plan", seed=3).strip == outcome("day", "plan", seed=3).strip


BATCHES = st.builds(
    Arrival,
    at=st.floats(0, 4 * HOUR),
    kind=st.just("batches"),
    model_id=st.sampled_from([*MODELS, None]),
    size=st.integers(1, 10_000),
    window=st.floats(60, 24 * HOUR),
    priority=st.integers(-1, 1),
)
LOADS = st.lists(BATCHES, min_size=8, max_size=40).map(lambda load: sorted(load, key=lambda one: one.at))


@settings(max_examples=60, deadline=None)
@given(LOADS, st.booleans(), st.integers(0, 99))
def test_nobody_starves_whatever_comes(load: list[Arrival], sleep: bool, seed: int) -> None:
    """Any deadlines, priorities and sizes: the switches and least turns of all models fit in the bound."""
    assert longest(Simulation(load, decide, sleep=sleep, seed=seed).run()) <= RULES.staleness


@settings(max_examples=30, deadline=None)
@given(LOADS, st.lists(st.sampled_from(list(MODELS)), min_size=2, max_size=3, unique=True), st.integers(0, 99))
def test_nobody_starves_while_people_never_stop(load: list[Arrival], models: Sequence[int], seed: int) -> None:
    """A tenth of this bound has room for the switches and least turns of all models."""
    chats = [Arrival(at, "interactive", model_id, 1) for model_id in models for at in range(model_id, 30_000, 17)]
    arrivals = sorted([*load, *chats], key=lambda one: one.at)
    rules = replace(RULES, staleness=10_000)
    assert longest(Simulation(arrivals, decide, sleep=False, seed=seed, rules=rules).run()) <= rules.staleness


@settings(max_examples=30, deadline=None)
@given(LOADS, st.integers(0, 99))
def test_models_do_not_change_places_for_nothing(load: list[Arrival], seed: int) -> None:
    """Where nothing is urgent or important, a model is left when it has no work, or when another is due."""
    calm = [replace(one, window=1e7, priority=0) for one in load]
    ran = Simulation(calm, decide, sleep=False, seed=seed).run()
    switches = [stretch for stretch in ran.strip if stretch.switch]
    for before, after in pairwise(switches):
        waiting = [one for one in ran.works if one.arrival.model_id == before.model_id]
        unfinished = any(one.arrival.at <= after.begin < (one.done or 0) for one in waiting)
        due = after.begin - min(one.arrival.at for one in ran.works if one.arrival.model_id == after.model_id)
        assert not unfinished or due >= EARLIEST
    assert len(switches) <= len(load) + ran.busy / RULES.staleness * 2 * (len(MODELS) + 1)
