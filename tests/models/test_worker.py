import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.core import guard, leases
from apps.core.drain import Flag
from apps.models import costs, jobs, worker
from apps.models.engines import deaths, fleet
from apps.models.engines.engine import Engine
from apps.models.jobs import EngineHost, Job
from apps.models.models import Device, Model
from apps.models.models import Engine as EngineRow
from apps.models.plan import Verb
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.models.worker import GpuWorker
from tests.fakes.hostile.folders import tiny_adapter, write_files
from tests.models.engines import eventually
from tests.stack.live import REPOSITORY, children_of

pytestmark = pytest.mark.django_db(transaction=True)
SLOT = Slot("testhost", "cpu")


class FakeKind:
    """Work that lists jobs and notes who came to do them."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self.ran: list[int] = []
        self.act: Callable[[EngineHost], None] = lambda host: None

    def add(self, model: Model, *, age: float = 0, priority: int = 0) -> None:
        now = timezone.now()
        since, deadline = now - timedelta(seconds=age), now + timedelta(days=1)
        job = Job(kind="fake", model_id=model.pk, waiting=1, priority=priority, deadline=deadline, since=since)
        self.waiting.append(job)

    def backlog(self) -> list[Job]:
        return list(self.waiting)

    def run(self, host: EngineHost, keeper: leases.Keeper, window: int) -> None:
        assert host.engine.healthy()
        model_id = Model.objects.get(name=host.engine.spec.served_name).pk
        self.ran.append(model_id)
        self.act(host)
        self.waiting = [job for job in self.waiting if job.model_id != model_id]


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> FakeKind:
    kind = FakeKind()
    monkeypatch.setattr(jobs, "_kinds", {"fake": kind})
    return kind


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Flag:
    flag = Flag()
    monkeypatch.setattr(fleet, "STOP", flag)
    return flag


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def held(keeper: leases.Keeper) -> leases.Held:
    return claim(keeper)


@pytest.fixture
def gpu(
    stop: Flag, kind: FakeKind, held: leases.Held, keeper: leases.Keeper, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GpuWorker]:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.0)
    settings.ENGINE_PYTHON = REPOSITORY / "tests/fakes/engine/python"
    gpu = GpuWorker(SLOT, held, keeper)
    yield gpu
    gpu.close()


def claim(keeper: leases.Keeper, key: str = SLOT.key) -> leases.Held:
    with connection.cursor() as cursor:
        held = leases.claim(cursor, key, "test")
    assert held
    keeper.add(held)
    return held


def adapter_folder(folder: Path, *, rank: int, behaves: str = "") -> Path:
    """`behaves`: see `tests/fakes/engine/vllm/entrypoints/openai/loras.py`."""
    write_files(folder, tiny_adapter(r=rank) | ({"fake-engine.txt": behaves} if behaves else {}))
    return folder


def broken(folder: Path, name: str = "broken") -> Model:
    """A model whose engine does not start."""
    folder = folder / name
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    model = register_model(name=name, path=folder)
    (folder / "config.json").unlink()
    return model


def another(folder: Path, name: str = "other") -> Model:
    (folder / name).mkdir()
    (folder / name / "config.json").write_text("{}")
    return register_model(name=name, path=folder / name)


def state() -> str:
    row = EngineRow.objects.filter(device__slot=SLOT.key).order_by("-since").first()
    return row.state if row else EngineRow.State.STOPPED


def processes(engine: Engine) -> set[int]:
    return guard.family(engine.group.pgid)


def test_it_works(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    assert state() == "stopped"
    assert not gpu.step()
    kind.add(model)
    assert gpu.step()
    assert (kind.ran, state()) == ([model.pk], "ready")
    engine = gpu.engine
    kind.add(model)
    assert gpu.step()
    assert gpu.engine is engine  # it stayed warm
    gpu.close()
    assert state() == "stopped"
    assert not processes(engine)


def test_it_serves_adapters_as_they_are_registered(
    gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path
) -> None:
    kind.add(model)
    assert gpu.step()
    plain = gpu.engine
    register_model(name="first", path=adapter_folder(tmp_path / "first", rank=20), base=model)
    assert not gpu.go_on()  # the turn ends, so that the adapter gets in
    kind.add(model)
    assert gpu.step()
    assert gpu.engine is not plain  # an engine that started without adapters takes none
    assert gpu.engine.spec.max_lora_rank == 32
    with_adapters = gpu.engine
    register_model(name="second", path=adapter_folder(tmp_path / "second", rank=8), base=model)
    kind.add(model)
    assert gpu.step()
    assert gpu.engine is with_adapters
    assert gpu.engine.served == {model.name, "first", "second"}
    assert gpu.go_on()


def test_it_survives_an_adapter_that_is_broken(gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "first", rank=8)
    register_model(name="first", path=folder, base=model)
    (folder / "adapter_config.json").write_text("{")
    kind.add(model)
    assert gpu.step()
    assert gpu.engine.served == {model.name}, "the model does not suffer for it"
    assert gpu.go_on()


def test_it_swaps_engines_for_another_model(gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path) -> None:
    other = another(tmp_path)
    kind.add(model)
    assert gpu.step()
    first = gpu.engine
    kind.add(other)
    assert gpu.step()
    assert kind.ran == [model.pk, other.pk]
    assert not processes(first)


def test_a_model_that_does_not_start_keeps_no_other_from_its_turn(
    gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "BACK_OFF", (30,))
    kind.add(broken(tmp_path), age=100, priority=9)
    kind.add(model)
    assert not gpu.step()
    assert state() == "failed"
    assert "No config.json" in EngineRow.objects.get().message
    assert gpu.step()
    assert kind.ran == [model.pk]


def test_it_tries_a_model_again_after_its_rest(
    gpu: GpuWorker, kind: FakeKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "BACK_OFF", (0, 0.5))
    model = broken(tmp_path)
    kind.add(model)
    assert not gpu.step()
    assert not gpu.step()
    (tmp_path / "broken/config.json").write_text("{}")
    assert not gpu.step()  # it rests
    time.sleep(0.6)
    assert gpu.step()
    assert kind.ran == [model.pk]


def test_it_notices_an_engine_that_died_while_it_waited(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    kind.add(model)
    gpu.step()
    first = gpu.engine
    os.kill(first.group.pgid, signal.SIGKILL)
    assert eventually(lambda: not first.alive())
    kind.add(model)
    assert gpu.step()
    assert gpu.engine is not first
    assert eventually(lambda: not processes(first))


def test_it_replaces_an_engine_that_died_under_a_job(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    engines = []

    def die(host: EngineHost) -> None:
        engines.append(host.engine)
        os.kill(max(processes(host.engine)), signal.SIGKILL)
        assert eventually(lambda: not host.engine.alive())
        assert host.restart()
        assert host.engine.healthy()

    kind.act = die
    kind.add(model)
    assert gpu.step()
    assert gpu.engine is not engines[0]
    assert not processes(engines[0])


def test_it_reaps_what_a_killed_worker_left_behind(
    gpu: GpuWorker, kind: FakeKind, keeper: leases.Keeper, model: Model
) -> None:
    kind.add(model)
    gpu.step()
    assert processes(gpu.engine)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET expires_at = '-infinity', owner = 'killed'")
    heir = GpuWorker(SLOT, claim(keeper), keeper)
    assert not processes(gpu.engine)
    heir.close()


def test_it_starts_no_engine_on_a_slot_that_was_lost(
    gpu: GpuWorker, kind: FakeKind, held: leases.Held, model: Model
) -> None:
    before = set(children_of(os.getpid()))
    with connection.cursor() as cursor:
        leases.revoke(cursor, [held.key])
    kind.add(model)
    with pytest.raises(leases.Fenced):
        gpu.step()
    assert kind.ran == []
    assert set(children_of(os.getpid())) == before


def test_a_job_is_told_to_stop(gpu: GpuWorker, kind: FakeKind, model: Model, stop: Flag) -> None:
    told: list[tuple[bool, bool]] = []

    def look(host: EngineHost) -> None:
        told.append((host.go_on(), host.must_stop()))
        stop.set()
        told.append((host.go_on(), host.must_stop()))

    kind.act = look
    kind.add(model)
    gpu.step()
    assert told == [(True, False), (False, True)]


def test_a_job_goes_on_until_another_has_waited_too_long(
    gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path, settings: Any
) -> None:
    settings.MODEL_QUANTUM_SECONDS, settings.MODEL_STALENESS_SECONDS = 0, 60
    settings.INTERACTIVE_LINGER_SECONDS = 0
    other = another(tmp_path)
    costs.record(device=Device.objects.get(), model=other, verb=Verb.START, seconds=0.1)
    costs.record(device=Device.objects.get(), model=model, verb=Verb.STOP, seconds=0.1)
    told: list[tuple[bool, bool]] = []

    def look(host: EngineHost) -> None:
        told.append((host.go_on(), host.must_stop()))
        kind.add(other, age=100)
        time.sleep(0.2)  # a model that has just come stays for half of what its coming cost
        told.append((host.go_on(), host.must_stop()))

    kind.act = look
    kind.add(model)
    gpu.step()
    assert told == [(True, False), (False, False)]
