from datetime import UTC, datetime, timedelta

from apps.models.jobs import Job
from apps.models.plan import choose

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(model_id: int, *, since: int = 0, priority: int = 0) -> Job:
    return Job(
        kind="batches",
        model_id=model_id,
        waiting=1,
        priority=priority,
        deadline=NOW + timedelta(days=1),
        since=NOW + timedelta(seconds=since),
    )


def test_it_works() -> None:
    assert choose([job(1, since=5), job(2, since=1)], resident=None, quantum_over=False) == job(2, since=1)


def test_it_has_nothing_to_do() -> None:
    assert choose([], resident=1, quantum_over=False) is None


def test_it_keeps_the_warm_engine_until_its_quantum_is_over() -> None:
    jobs = [job(1, since=5), job(2, since=1)]
    assert choose(jobs, resident=1, quantum_over=False) == jobs[0]
    assert choose(jobs, resident=1, quantum_over=True) == jobs[1]


def test_it_serves_a_higher_priority_first() -> None:
    jobs = [job(1), job(2, priority=5, since=99)]
    assert choose(jobs, resident=1, quantum_over=False) == jobs[1]
