"""Files of an installed model that are cut or lost later: found before an engine is started, and said at once."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.models import demand, jobs
from apps.models.admission.intact import fault, known_lengths
from apps.models.installs import manifest
from apps.models.models import Engine as EngineRow
from apps.models.models import EngineDeath, Model
from apps.models.worker import GpuWorker
from tests.fakes.hostile.folders import write_files
from tests.models.gateway.cast import Asking, chat, in_database
from tests.models.gateway.conftest import asking
from tests.models.strangers.sound import in_shards, index, sound_model
from tests.models.test_fleet import gpu
from tests.models.test_worker import FakeKind, keeper, kind, stop

__all__ = ["asking", "gpu", "keeper", "kind", "stop"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A model in three files, with the manifest of its install."""
    files = {name: content for name, content in sound_model().items() if name != "model.safetensors"}
    shards = in_shards(3)
    write_files(tmp_path / "m", files | shards | {"model.safetensors.index.json": index(shards)})
    manifest.write(tmp_path / "m", "key")
    return tmp_path / "m"


def found(folder: Path) -> str:
    return fault(folder, known_lengths(folder / manifest.NAME))


def halve(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def test_it_works(installed: Path) -> None:
    assert found(installed) == ""


def test_it_names_a_cut_file_with_its_sizes(installed: Path) -> None:
    halve(installed / "model-00002-of-00003.safetensors")
    problem = found(installed)
    assert problem.startswith("model-00002-of-00003.safetensors is shorter than its header says, cut off:")
    assert str(installed) not in problem


def test_it_names_a_cut_file_of_a_folder_that_was_never_installed(installed: Path) -> None:
    halve(installed / "model-00002-of-00003.safetensors")
    (installed / manifest.NAME).unlink()
    assert "shorter than its header says" in found(installed)


@pytest.mark.parametrize("name", ["model-00003-of-00003.safetensors", "tokenizer.json", "config.json"])
def test_it_names_a_lost_file(installed: Path, name: str) -> None:
    (installed / name).unlink()
    assert found(installed) == f"{name} is missing."


def test_it_names_a_lost_shard_without_index_and_manifest(installed: Path) -> None:
    for name in (manifest.NAME, "model.safetensors.index.json", "model-00001-of-00003.safetensors"):
        (installed / name).unlink()
    assert found(installed) == "model-00001-of-00003.safetensors is missing."


def test_it_names_a_document_that_was_cut(installed: Path) -> None:
    halve(installed / "tokenizer.json")
    assert found(installed).startswith("tokenizer.json has ")


def test_it_names_weights_that_were_replaced(installed: Path) -> None:
    shard = installed / "model-00001-of-00003.safetensors"
    shard.write_bytes((installed / "model-00002-of-00003.safetensors").read_bytes())
    assert "another file than when the model was installed" in found(installed)


def test_a_folder_without_weights_is_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert fault(tmp_path, {}) == fault(tmp_path / "gone", {}) == ""


@pytest.mark.django_db(transaction=True)
def test_no_engine_is_started_for_it(gpu: GpuWorker, kind: FakeKind, model: Model, installed: Path) -> None:
    Model.objects.update(path=str(installed))
    halve(installed / "model-00002-of-00003.safetensors")
    kind.add(model)
    assert not gpu.step()
    row = EngineRow.objects.get()
    assert (row.state, row.message.partition(":")[0]) == (
        "failed", "model-00002-of-00003.safetensors is shorter than its header says, cut off",
    )  # fmt: skip
    death = EngineDeath.objects.get()
    assert death.explained
    assert str(installed) not in death.headline
    assert str(installed) in death.message  # operators see where
    model.refresh_from_db()
    assert model.broken_until is not None


@pytest.mark.django_db(transaction=True)
async def test_who_asks_is_told_at_once(
    gpu: GpuWorker, asking: Asking, model: Model, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the time for which people wait for an engine."""
    monkeypatch.setattr(jobs, "_kinds", {"interactive": demand.InteractiveKind()})
    monkeypatch.setattr(settings, "INTERACTIVE_WAIT_SECONDS", 60)

    def damage() -> None:
        Model.objects.update(path=str(installed))
        (installed / "model-00002-of-00003.safetensors").unlink()

    await in_database(damage)
    request = asking.start(chat("x"))
    answer: Any = None
    while answer is None:
        await in_database(gpu.step)
        answer = await request.response() if request.sent.qsize() else None
    assert (answer.status, answer.code) == (503, "model_broken")
    message = answer.json["error"]["message"]
    assert message == (
        "The model 'test-model' is broken: model-00002-of-00003.safetensors is missing. "
        "Put the file back, or install the model again."
    )
