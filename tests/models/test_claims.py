"""What apps above claim: models that are not ready, folders that stay, and room for adapters on their way."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from django.db.models import QuerySet

from apps.core import leases
from apps.models import claims
from apps.models.engines.command import environment
from apps.models.engines.engine import Engine
from apps.models.engines.spec import spec_for
from apps.models.installs.boot import settle_boots
from apps.models.models import Model
from apps.models.removal import remove_unused_files
from apps.models.services import delete_preview, register_model
from apps.models.worker import GpuWorker
from tests.models.engines import post
from tests.models.test_worker import SLOT, FakeKind, adapter_folder, gpu, held, keeper, kind, stop

__all__ = ["gpu", "held", "keeper", "kind", "stop"]
pytestmark = pytest.mark.django_db(transaction=True)


class Above:
    """An app above."""

    def __init__(self) -> None:
        self.models: set[int] = set()
        self.kept: set[Path] = set()
        self.ranks: list[int] = []

    def unready(self) -> QuerySet[Model]:
        return Model.objects.filter(pk__in=self.models)

    def why_kept(self, folder: Path) -> str:
        return "It is ours." if folder in self.kept else ""

    def coming(self, model: Model) -> Iterable[int]:
        return self.ranks


@pytest.fixture
def above(monkeypatch: pytest.MonkeyPatch) -> Above:
    above = Above()
    for registry in ("_unready", "_kept", "_ranks"):
        monkeypatch.setattr(claims, registry, {})
    claims.register("above", unready=above.unready, why_kept=above.why_kept, ranks=above.coming)
    return above


def test_it_works(above: Above, keeper: leases.Keeper, model: Model) -> None:
    """A model that is claimed stays while it is not ready; nothing is left behind for ever."""
    Model.objects.update(ready=False)
    above.models = {model.pk}
    assert not settle_boots(keeper)
    above.models = set()
    assert settle_boots(keeper)
    assert not Model.objects.exists()


def test_a_folder_stays_while_it_is_claimed(above: Above, keeper: leases.Keeper, settings: Any, tmp_path: Path) -> None:
    settings.MODELS_DIR = tmp_path
    folder = tmp_path / "ours--x" / ("0" * 40)
    incoming = folder.with_name(f"{folder.name}.incoming")
    incoming.mkdir(parents=True)
    above.kept = {folder}
    assert not remove_unused_files(keeper)
    incoming.rename(folder)
    (folder / "config.json").write_text("{}")
    model = register_model(name="ours", path=folder)
    assert delete_preview(model=model).files_stay == "It is ours."
    model.delete()
    assert not remove_unused_files(keeper)
    above.kept = set()
    assert remove_unused_files(keeper)
    assert not folder.exists()


def test_the_next_engine_has_room_for_an_adapter_that_is_on_its_way(above: Above, model: Model) -> None:
    assert not spec_for(model, SLOT).takes_adapters
    above.ranks = [20, 8, 100]
    spec = spec_for(model, SLOT)
    assert (spec.takes_adapters, spec.max_loras, spec.max_lora_rank) == (True, 1, 128)
    assert environment(spec, {})["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert spec.settings.extra_lora_slots == 0, "the operator's settings are as they were"


def test_an_adapter_joins_and_leaves_the_engine_that_runs(
    above: Above, gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path
) -> None:
    above.ranks = [8]
    engine = serve(gpu, kind, model)
    adapter = register_model(name="lora", path=adapter_folder(tmp_path / "lora", rank=8), base=model)
    assert serve(gpu, kind, model) is engine
    assert engine.served == {model.name, "lora"}
    adapter.delete()
    assert not gpu.go_on(), "the turn ends, so that it is unloaded"
    assert serve(gpu, kind, model) is engine
    assert engine.served == {model.name}
    assert post(engine, "/v1/completions", {"model": "lora", "prompt": "x"})[0] == 404


def test_an_adapter_leaves_an_engine_that_nobody_uses(
    above: Above, gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path
) -> None:
    adapter = register_model(name="lora", path=adapter_folder(tmp_path / "lora", rank=8), base=model)
    engine = serve(gpu, kind, model)
    assert "lora" in engine.served
    adapter.delete()
    assert not gpu.step()
    assert engine.served == {model.name}
    assert model.engines.get().served == [model.name]


def test_an_adapter_of_the_same_name_with_other_files_takes_its_place(
    above: Above, gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path
) -> None:
    adapter = register_model(name="lora", path=adapter_folder(tmp_path / "one", rank=8), base=model)
    engine = serve(gpu, kind, model)
    Model.objects.filter(pk=adapter.pk).update(path=adapter_folder(tmp_path / "two", rank=8))
    assert not gpu.go_on()
    assert serve(gpu, kind, model) is engine
    assert [each.path for each in engine.adapters] == [tmp_path / "two"]


def test_a_rank_that_the_engine_cannot_take_gets_another_engine(
    above: Above, gpu: GpuWorker, kind: FakeKind, model: Model, tmp_path: Path
) -> None:
    above.ranks = [8]
    engine = serve(gpu, kind, model)
    register_model(name="lora", path=adapter_folder(tmp_path / "lora", rank=64), base=model)
    other = serve(gpu, kind, model)
    assert other is not engine
    assert other.spec.max_lora_rank == 64
    assert other.served == {model.name, "lora"}


def serve(gpu: GpuWorker, kind: FakeKind, model: Model) -> Engine:
    kind.add(model)
    assert gpu.step()
    return gpu.engine
