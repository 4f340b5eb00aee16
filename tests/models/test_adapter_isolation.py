"""A bad adapter is blamed alone: its base and the other adapters are served on, whatever it does to the engine."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from apps.core import leases
from apps.models import jobs
from apps.models.demand import InteractiveKind, ask_for
from apps.models.engines import deaths
from apps.models.engines.adapters import try_again
from apps.models.engines.engine import Engine
from apps.models.installs.boot import BootKind, settle_boots
from apps.models.models import EngineDeath, Install, Model
from apps.models.services import register_model
from apps.models.worker import GpuWorker
from tests.models.engines import ask
from tests.models.test_worker import FakeKind, adapter_folder, gpu, held, keeper, kind, stop

__all__ = ["gpu", "held", "keeper", "kind", "stop"]
pytestmark = pytest.mark.django_db(transaction=True)

Ride = Callable[..., Model]


@pytest.fixture
def ride(model: Model, tmp_path: Path) -> Ride:
    """Registers an adapter on the model; on trial, it is one that an install tries."""

    def ride(name: str, *, rank: int = 8, behaves: str = "", on_trial: bool = False) -> Model:
        folder = adapter_folder(tmp_path / name, rank=rank, behaves=behaves)
        adapter = register_model(name=name, path=folder, base=model)
        if on_trial:
            Model.objects.filter(pk=adapter.pk).update(ready=False)
            Install.objects.create(source=str(folder), name=name, status=Install.Status.BOOTING, model=adapter)
        return adapter

    return ride


def serve(gpu: GpuWorker, kind: FakeKind, model: Model) -> Engine:
    kind.add(model)
    assert gpu.step()
    return gpu.engine


def problem(adapter: Model) -> str:
    adapter.refresh_from_db()
    return adapter.problem


def test_it_works(gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride) -> None:
    ride("good")
    engine = serve(gpu, kind, model)
    assert engine.served == {model.name, "good"}
    refused = ride("refused", behaves="refuse", on_trial=True)
    assert not gpu.go_on(), "the turn ends, for its trial"
    assert serve(gpu, kind, model) is engine, "nobody is interrupted"
    assert engine.served == {model.name, "good"}
    assert problem(refused) == "The engine does not load it: the model's folder doesn't contain tensors"
    assert gpu.go_on(), "it is not tried again"
    assert not EngineDeath.objects.exists()


@pytest.mark.parametrize("how", ["die", "die-later"])
def test_the_death_of_an_engine_in_a_trial_counts_against_the_adapter(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride, how: str
) -> None:
    ride("good")
    first = serve(gpu, kind, model)
    bad = ride("bad", behaves=how, on_trial=True)
    second = serve(gpu, kind, model)
    assert second is not first
    assert second.served == {model.name, "good"}
    assert "RuntimeError: The fake engine dies of this adapter." in problem(bad).partition("\n")[0]
    assert list(EngineDeath.objects.values_list("model__name", flat=True)) == ["bad"]
    assert serve(gpu, kind, model) is second, "it is never loaded again"
    model.refresh_from_db()
    assert model.broken_until is None


def test_many_bad_adapters_do_not_open_the_base_s_breaker(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride
) -> None:
    for number in range(deaths.BREAKER_DEATHS + 1):
        ride(f"bad-{number}", behaves="die", on_trial=True)
    engine = serve(gpu, kind, model)
    assert engine.served == {model.name}
    assert EngineDeath.objects.filter(model=model).count() == 0
    model.refresh_from_db()
    assert model.broken_until is None


def test_an_adapter_that_has_answered_is_given_up_when_engines_die_of_it(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride
) -> None:
    bad = ride("bad", behaves="die")
    ride("good")
    engine = serve(gpu, kind, model)
    assert engine.served == {model.name, "good"}
    assert EngineDeath.objects.filter(model=bad).count() == 2, "two tries, no more"
    (bad.folder / "fake-engine.txt").unlink()
    assert gpu.go_on()
    try_again(model=bad)
    assert not gpu.go_on()
    assert serve(gpu, kind, model) is engine
    assert engine.served == {model.name, "good", "bad"}
    assert problem(bad) == ""


def test_a_refused_one_that_has_answered_before_is_asked_again_by_the_next_engine(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride
) -> None:
    bad = ride("bad", behaves="refuse")
    engine = serve(gpu, kind, model)
    assert problem(bad)
    (bad.folder / "fake-engine.txt").unlink()
    assert serve(gpu, kind, model) is engine
    assert "bad" not in engine.served
    engine.stop(1)
    assert gpu.step() is False
    assert "bad" in serve(gpu, kind, model).served
    assert problem(bad) == ""


def test_an_adapter_joins_an_engine_that_has_some_without_a_restart(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride
) -> None:
    ride("first")
    engine = serve(gpu, kind, model)
    assert (engine.spec.max_loras, engine.spec.max_lora_rank) == (2, 16)
    for number in range(4):
        ride(f"more-{number}", rank=16, on_trial=True)
    assert serve(gpu, kind, model) is engine
    assert len(engine.served) == 6


def test_room_that_the_engine_cannot_give_is_the_adapter_s_fault(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_ENGINE_*")
    monkeypatch.setenv("FAKE_ENGINE_MAX_RANK", "64")
    ride("good")
    serve(gpu, kind, model)
    wide = ride("wide", rank=256, on_trial=True)
    assert serve(gpu, kind, model).served == {model.name, "good"}
    assert "does not start with room for its rank of 256" in problem(wide)
    assert "out of memory" in problem(wide)
    assert not EngineDeath.objects.exists()


def test_an_engine_that_an_adapter_has_spoilt_is_replaced(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride
) -> None:
    """NaN in its KV cache gets into answers of others."""
    ride("good")
    spoilt = serve(gpu, kind, model)
    bad = ride("bad", behaves="overflow", on_trial=True)
    engine = serve(gpu, kind, model)
    assert engine is not spoilt
    assert engine.served == {model.name, "good"}
    assert problem(bad) == "Its numbers overflow: its answer to a first prompt is NaN or infinite."
    assert not EngineDeath.objects.exists()


def test_only_the_guilty_install_ends(gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride) -> None:
    jobs.register("boot", BootKind())
    bad, innocent = ride("bad", behaves="die", on_trial=True), ride("innocent", on_trial=True)
    EngineDeath.objects.create(model=model, device=gpu._device, message="Something else.")
    for _ in range(3):
        gpu.step()
        settle_boots(gpu._keeper)
    ended = dict(Install.objects.values_list("name", "status"))
    assert ended == {"bad": "failed", "innocent": "ready"}
    assert "died when it loaded the adapter bad" in Install.objects.get(name="bad").message
    innocent.refresh_from_db()
    assert innocent.ready
    assert not Model.objects.filter(pk=bad.pk).exists(), "it is forgotten"


def test_an_install_ends_where_its_base_does_not_start(
    keeper: leases.Keeper, gpu: GpuWorker, model: Model, ride: Ride
) -> None:
    ride("innocent", on_trial=True)
    for _ in range(2):
        EngineDeath.objects.create(model=model, device=gpu._device, message="No memory.", explained=True)
    settle_boots(keeper)
    assert Install.objects.get().status == "booting"
    EngineDeath.objects.create(model=model, device=gpu._device, message="No memory.", explained=True)
    settle_boots(keeper)
    install = Install.objects.get()
    assert (install.status, install.message) == (
        "failed", "Its base model test-model does not start, so that it could not be tried: No memory.",
    )  # fmt: skip


def test_people_s_answer_closes_the_breaker(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    Model.objects.update(broken_until=timezone.now() - timedelta(seconds=1))
    jobs.register("interactive", InteractiveKind())
    ask_for(model=model, owner="web", waiting=1)
    assert gpu.step()
    model.refresh_from_db()
    assert model.broken_until, "nobody was answered yet"
    ask(gpu.engine, "Hello")
    gpu.step()
    model.refresh_from_db()
    assert model.broken_until is None


def test_people_do_not_wait_for_an_adapter_that_is_not_served(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride
) -> None:
    bad = ride("bad", behaves="refuse")
    serve(gpu, kind, model)
    ask_for(model=bad, owner="web", waiting=1)
    assert InteractiveKind().backlog() == []


def test_its_base_s_bad_file_is_not_read_twice_a_second(
    gpu: GpuWorker, kind: FakeKind, model: Model, ride: Ride, caplog: Any
) -> None:
    bad = ride("bad")
    (bad.folder / "adapter_config.json").write_text("{")
    engine = serve(gpu, kind, model)
    assert engine.served == {model.name}
    assert "cannot be read" in problem(bad)
    caplog.clear()
    assert gpu.go_on()
    assert not caplog.records
