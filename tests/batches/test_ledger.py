import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from apps.accounts.models import Project
from apps.batches.client import Line, Outcome
from apps.batches.ledger import Ledger
from apps.batches.ledger import Shard as Taken
from apps.batches.models import Batch, Result, Shard
from apps.core import leases
from apps.core.db import connect
from apps.models.models import Model
from tests.batches.cast import end_line, make_running

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture(autouse=True)
def _small_shards(settings: pytest.FixtureRequest) -> None:
    settings.BATCH_SHARD_LINES = 4  # type: ignore[attr-defined]


def answered(line: Line, *, failed: bool = False) -> Outcome:
    return Outcome(
        line=line, failed=failed, status_code=400 if failed else 200, body="{}", request_id="req_1",
        input_tokens=5, cached_tokens=1, output_tokens=3, reasoning_tokens=2,
    )  # fmt: skip


def take(ledger: Ledger, model: Model) -> Taken:
    shard = ledger.take_shard([model.name])
    assert shard is not None
    return shard


def write(ledger: Ledger, shard: Taken, lines: list[Line] | None = None) -> dict[int, int]:
    outcomes = [answered(line) for line in (shard.lines if lines is None else lines)]
    return ledger.record(outcomes, {shard.id: shard.held})


def test_it_works(ledger: Ledger, project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=3)
    shard = take(ledger, model)
    assert (shard.batch, shard.batch_uid) == (batch.pk, batch.uid)
    assert [(line.number, line.custom_id) for line in shard.lines] == [(1, "a1"), (2, "a2"), (3, "a3")]
    assert json.loads(shard.lines[1].body) == {"n": 2}
    left = ledger.record([answered(shard.lines[0]), answered(shard.lines[1], failed=True)], {shard.id: shard.held})
    assert left == {shard.id: 1}
    row = Shard.objects.get()
    assert (row.completed, row.failed, row.input_tokens, row.cached_tokens) == (1, 1, 10, 2)
    assert (row.output_tokens, row.reasoning_tokens) == (6, 4)
    assert write(ledger, shard, shard.lines[2:]) == {shard.id: 0}
    assert list(Result.objects.order_by("line").values_list("line", "custom_id", "failed")) == [
        (1, "a1", False),
        (2, "a2", True),
        (3, "a3", False),
    ]


def test_it_counts_a_line_once_however_often_it_is_written(ledger: Ledger, project: Project, model: Model) -> None:
    make_running(project, model, lines=4)
    shard = take(ledger, model)
    for _ in range(3):
        write(ledger, shard, shard.lines[:2])
    assert write(ledger, shard) == {shard.id: 0}
    assert write(ledger, shard) == {shard.id: 0}
    row = Shard.objects.get()
    assert (row.completed, row.failed, row.input_tokens) == (4, 0, 20)
    assert Result.objects.count() == 4


def test_it_writes_nothing_for_a_shard_that_was_taken_over(ledger: Ledger, project: Project, model: Model) -> None:
    make_running(project, model, lines=8)
    lost, kept = take(ledger, model), take(ledger, model)
    with connection.cursor() as cursor:
        leases.revoke(cursor, [lost.held.key])
    outcomes = [answered(line) for line in lost.lines + kept.lines]
    assert ledger.record(outcomes, {lost.id: lost.held, kept.id: kept.held}) == {kept.id: 0}
    assert set(Result.objects.values_list("line", flat=True)) == {5, 6, 7, 8}
    again = take(ledger, model)
    assert (again.id, len(again.lines)) == (lost.id, 4)
    assert write(ledger, again) == {again.id: 0}
    assert write(ledger, lost) == {}


def test_it_takes_shards_by_priority_then_by_deadline(ledger: Ledger, project: Project, model: Model) -> None:
    old = make_running(project, model, lines=5)
    new = make_running(project, model, lines=1)
    hurried = make_running(project, model, lines=1, completion_window="4h")
    urgent = make_running(project, model, lines=1, priority=5)
    taken = [take(ledger, model).batch for _ in range(5)]
    assert taken == [urgent.pk, hurried.pk, old.pk, old.pk, new.pk]
    assert ledger.take_shard([model.name]) is None


def test_it_passes_over_lines_that_were_answered(ledger: Ledger, project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=4)
    end_line(batch, 1)
    end_line(batch, 3)
    assert [line.number for line in take(ledger, model).lines] == [2, 4]


def test_it_takes_again_what_was_released_or_has_expired(ledger: Ledger, project: Project, model: Model) -> None:
    make_running(project, model, lines=4)
    first = take(ledger, model)
    assert ledger.take_shard([model.name]) is None
    ledger.release([first])
    second = take(ledger, model)
    assert second.held.epoch != first.held.epoch
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET expires_at = clock_timestamp() - interval '1 ms', owner = 'elsewhere'")
    assert take(ledger, model).id == first.id
    assert write(ledger, second) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "cancelling"},
        {"status": "finalizing"},
        {"paused_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
    ],
)
def test_it_leaves_batches_alone_that_may_not_run(
    ledger: Ledger, project: Project, model: Model, change: dict[str, object]
) -> None:
    batch = make_running(project, model)
    assert ledger.runnable([batch.pk]) == {batch.pk}
    Batch.objects.filter(pk=batch.pk).update(**change)
    assert ledger.take_shard([model.name]) is None
    assert ledger.runnable([batch.pk]) == set()


def test_it_serves_adapters_with_their_base(ledger: Ledger, project: Project, model: Model) -> None:
    adapter = Model.objects.create(name="adapter", path=model.path, base=model, runner=model.runner)
    batch = make_running(project, adapter)
    assert ledger.take_shard([model.name]) is None
    shard = ledger.take_shard([model.name, adapter.name])
    assert shard is not None
    assert shard.batch == batch.pk


def test_it_survives_a_batch_that_is_deleted_under_its_hands(ledger: Ledger, project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=4)
    shard = take(ledger, model)
    batch.delete()
    assert write(ledger, shard) == {}
    assert Result.objects.count() == 0


def test_it_survives_the_loss_of_its_connection(ledger: Ledger, project: Project, model: Model) -> None:
    make_running(project, model, lines=4)
    shard = take(ledger, model)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(psycopg.OperationalError):
        write(ledger, shard)
    assert write(ledger, shard) == {shard.id: 0}


def test_it_wakes_the_control_workers_when_the_batch_has_ended(ledger: Ledger, project: Project, model: Model) -> None:
    make_running(project, model, lines=8)
    first, last = take(ledger, model), take(ledger, model)
    with connect() as ear:
        ear.execute("LISTEN bell_control")
        write(ledger, first)
        ledger.release([first])
        write(ledger, last, last.lines[:1])
        assert list(ear.notifies(timeout=0.2)) == []
        write(ledger, last)
        ledger.release([last])
        assert list(ear.notifies(timeout=5, stop_after=1))
