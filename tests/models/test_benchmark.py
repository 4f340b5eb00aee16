"""Benchmarks from the order to the figures, with the fake engine's real processes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from apps.accounts.models import Project
from apps.core import leases
from apps.core.errors import DomainError
from apps.models.benchmarks.run import BenchmarkKind
from apps.models.benchmarks.services import (
    BenchmarkTopic,
    cancel_benchmark,
    compare,
    label,
    settle_cancelled,
    start_benchmark,
)
from apps.models.models import Benchmark, Device, Engine, Model
from apps.models.slots import Slot
from tests.batches.lender import Lender
from tests.models.engines import api_server, eventually

pytestmark = pytest.mark.django_db(transaction=True)
Status = Benchmark.Status


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Lender]:
    with Lender(tmp_path, FAKE_ENGINE_LATENCY="0.02", FAKE_ENGINE_TOKEN_SECONDS="0.005") as lender:
        yield lender


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


def small(model: Model, **changes: Any) -> Benchmark:
    asked = {"concurrencies": [1, 4], "requests_per_level": 8, "prompt_tokens": 16, "output_tokens": 4, **changes}
    return start_benchmark(model=model, **asked)


def held(benchmark: Benchmark) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM core_lease WHERE key = %s", [f"benchmark:{benchmark.pk}"])
        return cursor.fetchone() is not None


def test_it_works(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    device = Device.objects.create(slot=Slot.here("0").key, name="H200")
    Engine.objects.create(device=device, model=model, socket=str(lender.engine.spec.socket), served=[model.name])
    benchmark = small(model)
    (job,) = BenchmarkKind().backlog()
    assert (job.kind, job.model_id, job.waiting, job.urgent) == ("benchmark", model.pk, 16, False)
    BenchmarkKind().run(lender, keeper, 64)
    benchmark.refresh_from_db()
    assert (benchmark.status, benchmark.message, benchmark.device_name) == (Status.COMPLETED, "", "H200")
    assert [level["concurrency"] for level in benchmark.levels] == [1, 4]
    one, four = benchmark.levels
    assert (one["requests"], one["errors"]) == (8, 0)
    assert four["requests_per_second"] > 1.3 * one["requests_per_second"]
    assert one["first_token"]["p50"] >= 20
    assert one["inter_token"]["p50"] >= 4
    assert BenchmarkKind().backlog() == []
    assert not held(benchmark)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"concurrencies": []}, "concurrencies"),
        ({"concurrencies": [0]}, "concurrencies"),
        ({"concurrencies": [5000]}, "concurrencies"),
        ({"concurrencies": range(1, 30)}, "concurrencies"),
        ({"prompt_tokens": 1}, "prompt_tokens"),
        ({"output_tokens": 10**6}, "output_tokens"),
        ({"requests_per_level": 10**6}, "requests_per_level"),
        ({"requests_per_level": 0}, "requests_per_level"),
    ],
)
def test_it_rejects_a_sweep_that_makes_no_sense(model: Model, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(DomainError) as refused:
        small(model, **changes)
    assert refused.value.param == param
    assert not Benchmark.objects.exists()


def test_it_goes_on_where_a_killed_worker_was(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model)
    measured = {"concurrency": 1, "requests": 8, "errors": 0, "seconds": 2.0}
    Benchmark.objects.update(status=Status.RUNNING, levels=[measured])
    (job,) = BenchmarkKind().backlog()
    assert (job.waiting, job.seconds) == (8, 2.0)
    BenchmarkKind().run(lender, keeper, 64)
    benchmark.refresh_from_db()
    assert benchmark.status == Status.COMPLETED
    assert benchmark.levels[0] == measured
    assert len(benchmark.levels) == 2


@pytest.mark.parametrize(
    "changes", [{"device_name": "another"}, {"revision": "0" * 40}, {"engine_settings": {"max_num_seqs": 1}}]
)
def test_figures_of_two_devices_revisions_or_settings_do_not_mix(
    lender: Lender, keeper: leases.Keeper, model: Model, changes: dict[str, Any]
) -> None:
    benchmark = small(model)
    Benchmark.objects.update(status=Status.RUNNING, levels=[{"concurrency": 1, "seconds": 2.0}], **changes)
    BenchmarkKind().run(lender, keeper, 64)
    benchmark.refresh_from_db()
    assert [level["concurrency"] for level in benchmark.levels] == [1, 4]
    assert benchmark.levels[0]["requests"] == 8
    assert (benchmark.revision, benchmark.engine_settings, benchmark.device_name) == (model.revision, {}, "")


def test_it_yields_between_two_levels(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model)
    lender.go_on = lambda: not Benchmark.objects.exclude(levels=[]).exists()  # type: ignore[method-assign]
    BenchmarkKind().run(lender, keeper, 64)
    benchmark.refresh_from_db()
    assert (benchmark.status, len(benchmark.levels)) == (Status.RUNNING, 1)
    assert len(BenchmarkKind().backlog()) == 1
    assert not held(benchmark)


def test_a_long_level_is_given_up_for_people(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model, concurrencies=[1], requests_per_level=10_000)
    began = time.monotonic()
    lender.go_on = lambda: time.monotonic() - began < 1  # type: ignore[method-assign]
    lender.patience = lambda: 1.0  # type: ignore[method-assign]
    BenchmarkKind().run(lender, keeper, 64)
    assert 2 < time.monotonic() - began < 5
    benchmark.refresh_from_db()
    assert (benchmark.status, benchmark.levels) == (Status.RUNNING, [])
    assert len(BenchmarkKind().backlog()) == 1


def test_it_is_measured_once_at_a_time(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model)
    with connection.cursor() as cursor:
        assert leases.claim(cursor, f"benchmark:{benchmark.pk}", "another worker")
    assert BenchmarkKind().backlog() == []
    BenchmarkKind().run(lender, keeper, 64)
    benchmark.refresh_from_db()
    assert benchmark.status == Status.QUEUED


def test_it_can_be_cancelled_before_and_while_it_runs(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    waiting = small(model)
    assert cancel_benchmark(benchmark=waiting)
    assert waiting.status == Status.CANCELLED
    assert not cancel_benchmark(benchmark=waiting)
    running = small(model, concurrencies=[1, 2], requests_per_level=5_000)
    began = time.monotonic()

    def cancel() -> None:
        assert eventually(lambda: Benchmark.objects.filter(status=Status.RUNNING).exists())
        cancel_benchmark(benchmark=running)
        connection.close()

    other = threading.Thread(target=cancel)
    other.start()
    BenchmarkKind().run(lender, keeper, 64)
    other.join()
    running.refresh_from_db()
    assert running.status == Status.CANCELLED
    assert time.monotonic() - began < 8


def test_nobody_measures_what_was_cancelled_while_its_worker_was_dead(
    lender: Lender, keeper: leases.Keeper, model: Model
) -> None:
    abandoned, taken = small(model), small(model)
    Benchmark.objects.update(status=Status.RUNNING)
    with connection.cursor() as cursor:
        lease = leases.claim(cursor, f"benchmark:{taken.pk}", "a worker that is killed in a moment")
        assert lease
        assert cancel_benchmark(benchmark=abandoned)
        assert cancel_benchmark(benchmark=taken)
        assert (abandoned.status, taken.status) == (Status.CANCELLED, Status.RUNNING)
        assert not settle_cancelled(keeper)
        leases.release(cursor, lease)
    assert BenchmarkKind().backlog() == []
    BenchmarkKind().run(lender, keeper, 64)
    assert lender.called() == []
    assert settle_cancelled(keeper)
    taken.refresh_from_db()
    assert taken.status == Status.CANCELLED


def test_levels_that_the_engine_would_queue_are_left_out(model: Model, settings: Any) -> None:
    settings.INTERACTIVE_SEATS, settings.ENGINE_CONCURRENCY = 4, 0
    Device.objects.create(slot=Slot.here("cpu").key)
    assert small(model, concurrencies=[1, 64, 68, 69]).sweep["concurrencies"] == [1, 64, 68]
    Model.objects.update(engine_settings={"max_num_seqs": 2})
    model.refresh_from_db()
    assert small(model, concurrencies=[6, 7]).sweep["concurrencies"] == [6]
    with pytest.raises(DomainError, match="computes 6 requests at once"):
        small(model, concurrencies=[7, 8])


def test_it_rejects_a_model_that_is_not_ready(model: Model) -> None:
    model.ready = False
    with pytest.raises(DomainError, match="not ready yet"):
        small(model)


def test_it_fails_with_what_the_engine_says(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model)
    Model.objects.update(runner=Model.Runner.POOLING)
    BenchmarkKind().run(lender, keeper, 64)
    benchmark.refresh_from_db()
    assert benchmark.status == Status.FAILED
    assert benchmark.message.startswith("The engine answers no request: 404")


def test_it_survives_an_engine_that_dies_once(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model, concurrencies=[2], requests_per_level=100)

    def kill() -> None:
        assert eventually(lambda: len(lender.called()) > 20)
        os.kill(api_server(lender.engine), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    BenchmarkKind().run(lender, keeper, 64)
    killer.join()
    benchmark.refresh_from_db()
    assert (benchmark.status, lender.restarts) == (Status.COMPLETED, 1)
    assert (benchmark.levels[0]["requests"], benchmark.levels[0]["errors"]) == (100, 0)


def test_it_fails_when_the_engine_dies_twice(lender: Lender, keeper: leases.Keeper, model: Model) -> None:
    benchmark = small(model, concurrencies=[1, 2], requests_per_level=400)
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(1):
            with suppress(ValueError, ProcessLookupError):  # it starts again at the moment
                os.kill(api_server(lender.engine), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    BenchmarkKind().run(lender, keeper, 64)
    ended.set()
    killer.join()
    benchmark.refresh_from_db()
    assert (benchmark.status, benchmark.levels) == (Status.FAILED, [])
    assert "engine died while 1 requests" in benchmark.message


def test_its_figures_make_a_chart(model: Model) -> None:
    level = {"concurrency": 4, "output_tokens_per_second": 123.456, "first_token": {"p50": 1.0, "p95": 2.0, "p99": 3.0}}
    benchmark = Benchmark(
        model=model, revision="0123456789", device_name="H200", levels=[level, {"concurrency": 8, "first_token": None}]
    )
    assert label(benchmark) == f"{model.name} @0123456 on H200"
    (line,) = compare([benchmark], "output_tokens_per_second")
    assert (line["unit"], line["points"]) == ("tokens/s", [{"x": 4, "y": 123.46}])
    assert compare([benchmark], "first_token", "p99")[0]["points"] == [{"x": 4, "y": 3.0}]
    against = compare([benchmark], "first_token", against="output_tokens_per_second")
    assert against[0]["points"] == [{"x": 123.46, "y": 2.0}]


def test_who_may_use_the_model_may_see_it(model: Model) -> None:
    mine, other = Project.objects.create(name="mine"), Project.objects.create(name="other")
    member, stranger = User.objects.create(username="m"), User.objects.create(username="s")
    mine.members.add(member)
    benchmark = small(model)
    topic = BenchmarkTopic()
    assert topic.authorize(stranger, benchmark.uid)
    Model.objects.update(project=mine)
    assert topic.authorize(mine, benchmark.uid)
    assert topic.authorize(member, benchmark.uid)
    assert not topic.authorize(other, benchmark.uid)
    assert not topic.authorize(stranger, benchmark.uid)
    snapshot = topic.snapshot(benchmark.uid)
    assert snapshot
    assert (snapshot["final"], snapshot["total"], snapshot["completed"]) == (False, 2, 0)
