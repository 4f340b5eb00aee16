"""Engines that take turns on a GPU's slot: they sleep and wake, drain, die in each state, and obey."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.core import leases
from apps.models import costs, demand, jobs, worker
from apps.models.demand import InteractiveKind, ask_for
from apps.models.engines import fleet, orders
from apps.models.engines.engine import Engine
from apps.models.models import Device, EngineDeath, Model
from apps.models.models import Engine as EngineRow
from apps.models.plan import Verb
from apps.models.slots import Slot
from apps.models.worker import GpuWorker
from tests.models.engines import all_gone, api_server, ask, engine_core, eventually, family
from tests.models.test_worker import FakeKind, another, claim, keeper, kind, stop
from tests.stack.live import REPOSITORY

__all__ = ["keeper", "kind", "stop"]
pytestmark = pytest.mark.django_db(transaction=True)
GPU = Slot("testhost", "0")
State = EngineRow.State


@pytest.fixture
def gpu(
    stop: Any, kind: FakeKind, keeper: leases.Keeper, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[GpuWorker]:
    """On a slot that is a GPU, as far as the fake engine knows."""
    settings.ENGINE_PYTHON = REPOSITORY / "tests/fakes/engine/python"
    settings.LOG_DIR = tmp_path / "log"
    settings.INTERACTIVE_LINGER_SECONDS = 0
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(costs, "GPU_DEFAULTS", {**dict.fromkeys(Verb, 0.01), Verb.START: 1.0})
    monkeypatch.setattr(fleet, "HEARSAY_SECONDS", 0.0)
    gpu = GpuWorker(GPU, claim(keeper, GPU.key), keeper)
    yield gpu
    gpu.close()


@pytest.fixture
def other(tmp_path: Path) -> Model:
    return another(tmp_path)


def state(model: Model) -> str:
    return EngineRow.objects.get(model=model).state


def background(act: Callable[[], object]) -> threading.Thread:
    """A thread that leaves no connection behind."""

    def run() -> None:
        try:
            act()
        finally:
            connection.close()

    return threading.Thread(target=run)


def serve(gpu: GpuWorker, kind: FakeKind, model: Model) -> Engine:
    kind.add(model)
    assert gpu.step()
    return gpu.engine


def test_it_works(gpu: GpuWorker, kind: FakeKind, model: Model, other: Model) -> None:
    first = serve(gpu, kind, model)
    second = serve(gpu, kind, other)
    assert (state(model), state(other)) == (State.ASLEEP, State.READY)
    assert first.is_sleeping()
    assert serve(gpu, kind, model) is first
    assert (state(model), state(other)) == (State.READY, State.ASLEEP)
    assert not first.is_sleeping()
    assert second.is_sleeping()
    learned = costs.costs_of(Device.objects.get()).learned
    assert {verb for _, verb in learned} == {Verb.START, Verb.SLEEP, Verb.WAKE}


def test_it_stops_what_memory_does_not_hold_asleep(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model, settings: Any
) -> None:
    settings.SLEEP_MEMORY_GIB = 1
    Model.objects.update(bytes=2 * 2**30)
    first = serve(gpu, kind, model)
    serve(gpu, kind, other)
    assert state(model) == State.STOPPED
    assert not first.alive()


def test_it_starts_anew_what_woke_up_wrong(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_ENGINE_*")
    monkeypatch.setenv("FAKE_ENGINE_WAKES", "garbage")
    first = serve(gpu, kind, model)
    serve(gpu, kind, other)
    again = serve(gpu, kind, model)
    assert again is not first
    assert not first.alive()
    assert "!!" not in ask(again, "Hello")
    death = EngineDeath.objects.get()
    assert death.explained
    assert "answers differently after it slept" in death.message


def test_it_lets_people_s_answers_end_before_it_parks_an_engine(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model
) -> None:
    engine = serve(gpu, kind, model)
    answers: list[str] = []
    talk = background(lambda: answers.append(ask(engine, "tell me !slow:1")))
    talk.start()
    assert eventually(lambda: not engine.drain(0))
    seen: list[str] = []

    def look() -> None:
        while not answers:
            seen.append(state(model))

    watcher = background(look)
    watcher.start()
    serve(gpu, kind, other)
    talk.join()
    watcher.join()
    assert len(answers) == 1
    assert State.DRAINING in seen


@pytest.mark.parametrize("victim", [api_server, engine_core], ids=["api server", "engine core"])
@pytest.mark.parametrize("at", ["ready", "asleep"])
def test_it_survives_kill_nine(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model, victim: Callable[[Engine], int], at: str
) -> None:
    engine = serve(gpu, kind, model)
    if at == "asleep":
        serve(gpu, kind, other)
    assert state(model) == at
    pids = family(engine)
    os.kill(victim(engine), signal.SIGKILL)
    assert eventually(lambda: not engine.alive())
    gpu.step()
    assert eventually(lambda: not family(engine))
    assert state(model) == State.FAILED
    assert all_gone(pids)
    assert serve(gpu, kind, model) is not engine
    assert state(model) == State.READY


def test_it_survives_kill_nine_while_it_starts(
    gpu: GpuWorker, kind: FakeKind, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_ENGINE_*")
    monkeypatch.setenv("FAKE_ENGINE_LOAD_SECONDS", "5")
    started: list[Engine] = []
    start = Engine.start

    def noted(engine: Engine) -> None:
        start(engine)
        started.append(engine)

    monkeypatch.setattr(Engine, "start", noted)

    def kill() -> None:
        assert eventually(lambda: started and len(family(started[0])) >= 3)
        assert state(model) == State.STARTING
        os.kill(api_server(started[0]), signal.SIGKILL)

    killer = background(kill)
    killer.start()
    kind.add(model)
    assert not gpu.step()
    killer.join()
    assert state(model) == State.FAILED
    assert not family(started[0])
    monkeypatch.setenv("FAKE_ENGINE_LOAD_SECONDS", "0")
    assert gpu.step()


def test_it_reaps_sleepers_that_a_killed_worker_left_behind(
    gpu: GpuWorker, kind: FakeKind, keeper: leases.Keeper, model: Model, other: Model
) -> None:
    engines = [serve(gpu, kind, model), serve(gpu, kind, other)]
    assert all(map(family, engines))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET expires_at = '-infinity', owner = 'killed'")
    heir = GpuWorker(GPU, claim(keeper, GPU.key), keeper)
    assert not any(map(family, engines))
    heir.close()


@pytest.mark.parametrize(("order", "then"), [("stop", State.STOPPED), ("sleep", State.ASLEEP)])
def test_it_obeys(gpu: GpuWorker, kind: FakeKind, model: Model, order: str, then: str) -> None:
    serve(gpu, kind, model)
    row = EngineRow.objects.get()
    assert orders.order_engine(engine=row, order=EngineRow.Order(order))
    assert not gpu.go_on()
    assert not gpu.step()
    row.refresh_from_db()
    assert (row.state, row.order) == (then, "")
    assert not orders.order_engine(engine=row, order=EngineRow.Order.SLEEP)  # it does not run, or sleeps


def test_people_come_first(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch ends its turn for them, and the engine that they get stays while they use it."""
    told: list[bool] = []

    def look(host: Any) -> None:
        told.append(host.go_on())
        ask_for(model=other, owner="web", waiting=2)
        time.sleep(0.5)
        told.append(host.go_on())

    kind.act = look
    monkeypatch.setitem(jobs._kinds, "interactive", InteractiveKind())
    costs.record(device=Device.objects.get(), model=other, verb=Verb.START, seconds=0.1)
    costs.record(device=Device.objects.get(), model=model, verb=Verb.SLEEP, seconds=0.1)
    kind.add(model)
    assert gpu.step()
    assert told == [True, False]
    assert gpu.step()
    row = EngineRow.objects.get(model=other)
    assert (row.state, row.served) == (State.READY, ["other"])
    assert Path(row.socket).is_socket()
    assert InteractiveKind().backlog() == []  # they are served


def test_people_wake_what_an_operator_parked_and_batches_come_back_later(
    gpu: GpuWorker, kind: FakeKind, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs._kinds, "interactive", InteractiveKind())
    engine = serve(gpu, kind, model)
    orders.order_engine(engine=EngineRow.objects.get(), order=EngineRow.Order.SLEEP)
    kind.add(model)
    assert not gpu.step()
    row = EngineRow.objects.get()
    assert (row.state, row.message) == (State.ASLEEP, worker.ORDERED)
    ask_for(model=model, owner="web", waiting=1)
    assert gpu.step()
    assert gpu.engine is engine


def test_it_survives_kill_nine_while_it_drains(gpu: GpuWorker, kind: FakeKind, model: Model, other: Model) -> None:
    engine = serve(gpu, kind, model)

    def talk() -> None:
        with pytest.raises((OSError, HTTPException)):
            ask(engine, "tell me !slow:60")

    def kill() -> None:
        assert eventually(lambda: state(model) == State.DRAINING)
        os.kill(api_server(engine), signal.SIGKILL)

    threads = [background(talk), background(kill)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: not engine.drain(0))
    serve(gpu, kind, other)
    for thread in threads:
        thread.join()
    assert not family(engine)
    assert (state(model), state(other)) == (State.FAILED, State.READY)
    assert "while it finished" in EngineDeath.objects.get().message


def test_one_of_many_idle_slots_gets_the_engine_ready(gpu: GpuWorker, keeper: leases.Keeper, model: Model) -> None:
    devices = [Device.objects.create(slot=f"gpu:testhost:{number}") for number in range(1, 5)]
    for device in devices:
        claim(keeper, device.slot)
    ask_for(model=model, owner="web", waiting=1)
    together = threading.Barrier(len(devices))
    won: list[bool] = []

    def hear(device: Device) -> None:
        together.wait()
        won.append(demand.claim(model.pk, device))

    threads = [background(partial(hear, device)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


def test_rows_tell_the_truth_after_a_step_that_failed(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model
) -> None:
    serve(gpu, kind, model)
    EngineRow.objects.filter(model=model).update(state=State.DRAINING, socket="")
    EngineRow.objects.create(device=Device.objects.get(), model=other, state=State.STARTING, served=["other"])
    gpu.step()
    assert (state(model), state(other)) == (State.READY, State.STOPPED)
    assert EngineRow.objects.get(model=model).socket == str(gpu.engine.spec.socket)


def test_engines_of_deleted_models_end(gpu: GpuWorker, kind: FakeKind, model: Model, other: Model) -> None:
    engines = [serve(gpu, kind, model), serve(gpu, kind, other)]
    Model.objects.all().delete()
    assert not gpu.step()
    assert not any(map(family, engines))


def test_work_without_an_engine_gets_the_device_bare(
    gpu: GpuWorker, kind: FakeKind, model: Model, other: Model
) -> None:
    engines = [serve(gpu, kind, model), serve(gpu, kind, other)]
    bare = BareKind()
    jobs.register("bare", bare)
    assert gpu.step()
    assert bare.went_on == [True]
    assert not any(map(family, engines))
    assert (state(model), state(other)) == (State.STOPPED, State.STOPPED)


def serve_interactively(gpu: GpuWorker, model: Model) -> Engine:
    jobs.register("interactive", InteractiveKind())
    ask_for(model=model, owner="web", waiting=1)
    assert gpu.step()
    return gpu.engine


class BareKind:
    """Work on the device itself, such as training."""

    def __init__(self) -> None:
        self.went_on: list[bool] = []

    def backlog(self) -> list[jobs.Job]:
        now = timezone.now()
        job = jobs.Job(
            kind="bare", model_id=None, waiting=1, priority=0, deadline=now + timedelta(days=1), since=now, seconds=1
        )
        return [] if self.went_on else [job]

    def run(self, host: Any, keeper: leases.Keeper, window: int) -> None:
        self.went_on.append(host.go_on())
