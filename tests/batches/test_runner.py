import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from math import log2
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from apps.accounts.models import Project
from apps.batches import client, ledger, runner
from apps.batches.client import Client
from apps.batches.models import Batch, Request, Result, Shard
from apps.batches.runner import Runner
from apps.batches.services import cancel_batch, pause_batch, resume_batch
from apps.core import attempts, guard, leases
from apps.models.models import Model
from tests.batches.cast import make_running
from tests.batches.lender import Lender

pytestmark = pytest.mark.django_db(transaction=True)
WINDOW = 16


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(client, "BACK_OFF", (0.05, 0.1, 0.2))
    settings.BATCH_SHARD_LINES = 50


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Lender]:
    with Lender(tmp_path, FAKE_ENGINE_LATENCY="0.02") as lender:
        yield lender


class Run:
    """A runner in a thread of its own."""

    def __init__(self, model: Model, lender: Lender, keeper: leases.Keeper) -> None:
        self.error: BaseException | None = None
        self.told: set[str] = set()
        self.runner = Runner(host=lender, keeper=keeper, window=WINDOW, client=_client, on_progress=self._tell)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.runner.run()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    async def _tell(self, batches: set[str]) -> None:
        self.told |= batches

    def join(self, seconds: float = 30) -> None:
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error


def _client(host: Any) -> Client:
    return Client(host.engine.spec.socket, alive=host.engine.alive, attempts=3, timeout=20)


def make(project: Project, model: Model, lines: int, marked: dict[int, str] | None = None, **options: Any) -> Batch:
    """A running batch whose prompts are "BATCH LINE", with a marker for the fake engine after it."""
    batch = make_running(project, model, lines=lines, **options)
    for row in Request.objects.filter(batch=batch):
        text = f"{batch.pk} {row.line} {(marked or {}).get(row.line, '')}".strip()
        row.body = json.dumps({"model": model.name, "messages": [{"role": "user", "content": text}]})
        row.save()
    return batch


def ended(batch: Batch) -> int:
    return sum(shard.completed + shard.failed for shard in Shard.objects.filter(batch=batch))


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def assert_sound(batch: Batch, lines: int) -> None:
    """Every line has one result, and the counts agree."""
    rows = list(Result.objects.filter(batch=batch).values_list("line", "failed"))
    assert sorted(line for line, _ in rows) == list(range(1, lines + 1))
    shards = Shard.objects.filter(batch=batch)
    failed = sum(failed for _, failed in rows)
    assert (sum(s.completed for s in shards), sum(s.failed for s in shards)) == (lines - failed, failed)
    assert held() == 0


def held() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM core_lease WHERE expires_at > clock_timestamp()")
        count: int = cursor.fetchone()[0]
    return count


def test_it_works(project: Project, model: Model, lender: Lender, keeper: leases.Keeper) -> None:
    batch = make(project, model, 120)
    run = Run(model, lender, keeper)
    run.join()
    assert_sound(batch, 120)
    assert run.told == {batch.uid}
    assert Counter(lender.called()).most_common(1)[0][1] == 1
    result = Result.objects.get(batch=batch, line=7)
    assert f"Answer to: {batch.pk} 7" in str(result.body)
    assert (result.custom_id, result.attempts, result.status_code) == ("a7", 1, 200)


def test_it_keeps_the_window_full_across_shards_and_batches(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper, settings: Any
) -> None:
    settings.BATCH_SHARD_LINES = 3
    batches = [make(project, model, 10, dict.fromkeys(range(1, 11), "!slow:0.4")) for _ in range(8)]
    began = time.monotonic()
    Run(model, lender, keeper).join()
    waves = 80 / WINDOW
    assert time.monotonic() - began < 0.4 * waves * 2  # line by line it would be 32 s, shard by shard 13 s
    for batch in batches:
        assert_sound(batch, 10)


def test_it_ends_when_nothing_is_left_and_holds_nothing(model: Model, lender: Lender, keeper: leases.Keeper) -> None:
    Run(model, lender, keeper).join(5)
    assert held() == 0


@pytest.mark.parametrize("stop", [cancel_batch, pause_batch])
def test_it_drops_a_batch_that_was_stopped(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper, stop: Callable[..., bool]
) -> None:
    other = make(project, model, 30)
    batch = make(project, model, 50, dict.fromkeys(range(1, 51), "!slow:20"))
    run = Run(model, lender, keeper)
    wait_for(lambda: ended(other) == 30 and any(call.startswith(f"{batch.pk} ") for call in lender.called()))
    began = time.monotonic()
    stop(batch=batch)
    run.join(5)
    assert time.monotonic() - began < 2.5
    assert_sound(other, 30)
    assert held() == 0


def test_it_goes_on_with_a_batch_that_was_resumed(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    make(project, model, 1, {1: "!slow:6"})  # keeps the run alive
    batch = make(project, model, 400)
    run = Run(model, lender, keeper)
    wait_for(lambda: ended(batch) > 50)
    pause_batch(batch=batch)
    time.sleep(1.5)
    stopped_at = ended(batch)
    time.sleep(0.5)
    assert ended(batch) == stopped_at < 400
    resume_batch(batch=batch)
    run.join()
    assert_sound(batch, 400)


def test_it_stops_within_seconds_when_the_host_says_so(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    batch = make(project, model, 100, dict.fromkeys(range(40, 101), "!slow:20"))
    run = Run(model, lender, keeper)
    wait_for(lambda: ended(batch) == 39)
    lender.stopping = True
    run.join(5)
    assert held() == 0
    assert Result.objects.filter(batch=batch).count() == ended(batch) == 39
    lender.stopping = False


def test_it_lets_lines_in_flight_end_before_a_swap(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    batch = make(project, model, 100, dict.fromkeys(range(1, 101), "!slow:4"))
    run = Run(model, lender, keeper)
    wait_for(lambda: len(lender.called()) == WINDOW)
    lender.going = False
    run.join(10)
    assert ended(batch) == len(lender.called()) == WINDOW
    assert held() == 0


def test_it_finds_the_line_that_kills_the_engine(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    batch = make(project, model, 100, {33: "!die"})
    Run(model, lender, keeper).join(60)
    assert_sound(batch, 100)
    (bad,) = Result.objects.filter(batch=batch, failed=True)
    assert (bad.line, bad.error_code) == (33, "engine_crash")
    assert lender.restarts <= log2(WINDOW) + 3


@pytest.mark.parametrize("core", [False, True])
def test_it_survives_the_death_of_the_engine(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper, core: bool
) -> None:
    batch = make(project, model, 300)
    run = Run(model, lender, keeper)
    wait_for(lambda: ended(batch) > 100)
    family = guard.family(lender.engine.group.pgid) - {lender.engine.group.pgid}
    os.kill(max(family) if core else min(family), signal.SIGKILL)
    run.join()
    assert_sound(batch, 300)
    assert not Result.objects.filter(failed=True).exists()
    assert lender.restarts == 1
    calls = Counter(lender.called())
    assert calls.total() - len(calls) <= 1.25 * WINDOW


def test_it_gives_trouble_an_error_line_each_and_loses_none(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    marked = {10: "!garbage", 20: "!500", 30: "!400", 40: "!500-once", 50: "!429-once"}
    batch = make(project, model, 60, marked)
    Run(model, lender, keeper).join()
    assert_sound(batch, 60)
    failed = Result.objects.filter(batch=batch, failed=True).order_by("line")
    assert [(row.line, row.status_code, row.error_code, row.attempts) for row in failed] == [
        (10, None, "engine_error", 3),
        (20, 500, "", 3),
        (30, 400, "", 1),
    ]


def test_it_drops_a_shard_that_was_taken_over(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    batch = make(project, model, 200, {50: "!slow:19"})  # the shard cannot end before it is taken over
    key = f"shard:{Shard.objects.get(batch=batch, first_line=1).pk}"
    run = Run(model, lender, keeper)
    wait_for(lambda: ended(batch) > 20)
    with connection.cursor() as cursor:
        leases.revoke(cursor, [key])
        assert leases.claim(cursor, key, "elsewhere")
    run.join()
    assert ended(batch) < 200
    Request.objects.filter(batch=batch, line=50).update(body=Request.objects.get(batch=batch, line=51).body)
    with connection.cursor() as cursor:
        leases.revoke(cursor, [key])
    Run(model, lender, keeper).join()
    assert_sound(batch, 200)


def test_it_survives_the_loss_of_its_connections(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper
) -> None:
    batch = make(project, model, 400)
    run = Run(model, lender, keeper)
    for enough in (50, 150):
        wait_for(lambda: ended(batch) > enough)  # noqa: B023
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    run.join()
    wait_for(lambda: held() == 0)  # a lease that could not be given back runs out
    assert_sound(batch, 400)
    assert Counter(lender.called()).most_common(1)[0][1] == 1  # what was answered was kept


def test_it_does_not_hang_when_results_cannot_be_written(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make(project, model, 30)
    monkeypatch.setattr(ledger, "RECORD", "SELECT 1 / 0")
    with pytest.raises(ExceptionGroup):
        Run(model, lender, keeper).join(10)
    assert held() == 0
    monkeypatch.undo()
    attempts.wake("")
    Run(model, lender, keeper).join()
    assert_sound(batch, 30)


def test_it_never_risks_more_than_a_quarter_window_of_answers(
    project: Project, model: Model, lender: Lender, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FLUSH_SECONDS", 0.05)
    batch = make(project, model, 300)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE batches_result IN SHARE MODE")  # nothing can be written
        run = Run(model, lender, keeper)
        time.sleep(2)
        assert len(lender.called()) <= 1.25 * WINDOW
        cursor.execute("COMMIT")
    run.join()
    assert_sound(batch, 300)
