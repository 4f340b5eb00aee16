"""The plan in virtual time, against "in order of arrival" and "most work first": see bench/load.py for the load."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

from django.conf import settings

from apps.models.plan import decide
from bench import load, scheduler_plots
from bench.figures import Figure
from bench.simulation import RULES, Outcome, Policy, Simulation, fifo, most_work

SEEDS = 200
LEAST_SAVING = 0.7  # of the time that order of arrival takes

POLICIES: dict[str, Policy] = {"arrival": fifo, "most work": most_work, "plan": decide}


@dataclass(frozen=True, slots=True)
class Scenario:
    load: Callable[[Random], list[load.Arrival]]
    sleep: bool
    policies: Sequence[str] = ("arrival", "plan")


SCENARIOS = {
    "backlog": Scenario(load.backlog, sleep=False, policies=tuple(POLICIES)),
    "backlog, sleep": Scenario(load.backlog, sleep=True),
    "day": Scenario(load.mixed_day, sleep=False, policies=tuple(POLICIES)),
    "day, sleep": Scenario(load.mixed_day, sleep=True),
    "large batches": Scenario(load.large_batches, sleep=False),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one run. Seconds."""

    busy: float
    """Until all is done, the time in which the device worked or switched."""
    switches: int
    waits: list[float]
    """Of batches and trainings, for the first turn of their model."""
    people: list[float]
    """Of each message, for an engine."""
    until_done: float
    """Mean of batches and trainings, from arrival to the last request."""
    missed: int
    """Deadlines."""


Runs = dict[tuple[str, str], list[Summary]]


def run() -> list[Figure]:
    runs = simulate(SEEDS)
    _draw(runs, settings.BASE_DIR / "docs/img")
    return [*_totals(runs), *_waits(runs)]


def _draw(runs: Runs, folder: Path) -> None:
    hours: dict[str, dict[str, list[float]]] = {}
    for (scenario, policy), summaries in runs.items():
        hours.setdefault(scenario, {})[policy] = [summary.busy / load.HOUR for summary in summaries]
    waits = {policy: [wait for summary in runs["day", policy] for wait in summary.waits] for policy in POLICIES}
    scheduler_plots.draw_times(folder / "scheduler-time.svg", hours)
    scheduler_plots.draw_waits(folder / "scheduler-waits.svg", waits, RULES.staleness)
    strips = {policy: outcome("day", policy, seed=0).strip for policy in POLICIES}
    scheduler_plots.draw_day(folder / "scheduler-day.svg", strips)


def simulate(seeds: int) -> Runs:
    """Scenario and policy -> a summary for each seed."""
    with ProcessPoolExecutor() as pool:
        by_seed = list(pool.map(_seed, range(seeds)))
    return {key: [summaries[key] for summaries in by_seed] for key in by_seed[0]}


def outcome(scenario: str, policy: str, *, seed: int) -> Outcome:
    arrivals = SCENARIOS[scenario].load(Random(seed))
    return Simulation(arrivals, POLICIES[policy], sleep=SCENARIOS[scenario].sleep, seed=seed).run()


def _seed(seed: int) -> dict[tuple[str, str], Summary]:
    pairs = [(name, policy) for name, scenario in SCENARIOS.items() for policy in scenario.policies]
    return {(name, policy): _summary(outcome(name, policy, seed=seed)) for name, policy in pairs}


def _summary(outcome: Outcome) -> Summary:
    jobs = [work for work in outcome.works if not work.job.urgent]
    return Summary(
        busy=outcome.busy,
        switches=outcome.switches,
        waits=[work.waited for work in jobs],
        people=[work.waited for work in outcome.works if work.job.urgent],
        until_done=fmean(work.took for work in jobs),
        missed=sum(work.took > work.arrival.window for work in jobs),
    )


def _totals(runs: Runs) -> list[Figure]:
    """The time in which the device is busy, by that of the same seed in order of arrival."""

    def figure(name: str, key: tuple[str, str], base: str, at_most: float | None = None) -> Figure:
        pairs = zip(runs[key], runs[base, "arrival"], strict=True)
        ratios = [ours.busy / theirs.busy for ours, theirs in pairs]
        return Figure(name=f"total time, {name}", unit="ratio", runs=ratios, at_most=at_most)

    backlog = figure("backlog", ("backlog", "plan"), "backlog", LEAST_SAVING)
    worst = Figure(name="total time, backlog, worst seed", unit="ratio", runs=[max(backlog.runs)], at_most=LEAST_SAVING)
    return [
        backlog,
        worst,
        figure("backlog, most work first", ("backlog", "most work"), "backlog"),
        figure("backlog, both sleep", ("backlog, sleep", "plan"), "backlog, sleep"),
        figure("backlog, only ours sleeps", ("backlog, sleep", "plan"), "backlog"),
        figure("day", ("day", "plan"), "day"),
        figure("day, most work first", ("day", "most work"), "day"),
        figure("day, both sleep", ("day, sleep", "plan"), "day, sleep"),
        figure("day, only ours sleeps", ("day, sleep", "plan"), "day"),
        figure("large batches", ("large batches", "plan"), "large batches"),
    ]


def _waits(runs: Runs) -> list[Figure]:
    figures = []
    for (scenario, policy), summaries in runs.items():
        bound = RULES.staleness if policy == "plan" else None
        longest = [max(max(summary.waits) for summary in summaries)]
        of = f"{scenario}, {policy}"
        figures += [
            Figure(name=f"{of}: longest wait, worst seed", unit="s", runs=longest, at_most=bound),
            Figure(name=f"{of}: until done, mean", unit="s", runs=[summary.until_done for summary in summaries]),
            Figure(name=f"{of}: switches", unit="", runs=[float(summary.switches) for summary in summaries]),
            Figure(name=f"{of}: deadlines missed, all seeds", unit="", runs=[sum(one.missed for one in summaries)]),
        ]
        people = sorted(wait for summary in summaries for wait in summary.people)
        if people:
            late = [people[len(people) * 95 // 100]]
            figures.append(Figure(name=f"{of}: people's wait, p95", unit="s", runs=late))
    return figures
