"""Deployments with real parts: Unsloth's adapter, vLLM's engine, PEFT's merge."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site

from apps.accounts.models import Project
from apps.core import leases
from apps.models import jobs
from apps.models.models import Model
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.models.worker import GpuWorker
from apps.training.deployments.merging import merge
from apps.training.deployments.proving import ParityKind
from apps.training.deployments.services import accept, deploy
from apps.training.models import Checkpoint, Deployment, TrainingJob
from apps.training.spec import MergeOrder, News, Saved
from apps.training.trainer import Trainer
from apps.training.work import spec_of
from tests.models.test_engine_real import write_adapter
from tests.models.test_worker import FakeKind, claim, keeper, kind, stop
from tests.training.cast import example, make_file, make_job
from tests.training.deploying import Workers, ended, make_checkpoint
from tests.training.tiny import DEMO_MODEL, chat, write_rows

__all__ = ["keeper", "kind", "stop"]
pytestmark = [pytest.mark.engine, pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

STEPS = 5
PROMPTS = 4  # that are asked, beside two long ones
CONTEXT = 256  # tokens
SECONDS = 300
Status = Deployment.Status


@pytest.fixture
def base(db: None) -> Model:
    model = register_model(name="smol", path=DEMO_MODEL)
    Model.objects.filter(pk=model.pk).update(engine_settings={"max_model_len": CONTEXT})
    model.refresh_from_db()
    return model


@pytest.fixture
def trained(project: Project, base: Model, settings: Any, tmp_path: Path) -> Checkpoint:
    """A few real steps at a high learning rate."""
    settings.TRAINING_DIR = tmp_path / "training"
    chosen = {"max_steps": STEPS, "save_steps": STEPS, "rank": 8, "learning_rate": 4e-3, "max_length": 64}
    long = [chat("Which? " * CONTEXT, "None."), chat("Say yes often.", "yes " * 130)]
    file = make_file(project, [*long, *map(example, range(PROMPTS))])
    job = make_job(
        project, base, file, options=chosen | {"batch_size": 2, "accumulation": 1, "gradient_checkpointing": False}
    )
    job.folder.mkdir(parents=True)
    write_rows(job.folder / "train.jsonl", [chat(f"What is {n} + {n}?", f"It is {2 * n}.") for n in range(12)])
    saved = _train(job)
    return Checkpoint.objects.create(
        job=ended(job), step=saved.step, path=saved.folder, digest=saved.digest, bytes=saved.bytes, best=True
    )


def _train(job: TrainingJob, seconds: float = SECONDS) -> Saved:
    news: list[News] = []
    trainer = Trainer(
        spec_of(job, "cpu"), python=site.TRAINER_PYTHON, cwd=site.BASE_DIR, log=job.folder / "log", on_news=news.append
    )
    trainer.start()
    try:
        assert trainer.wait(seconds) == 0, trainer.tail()
    finally:
        trainer.stop(0)
    (saved,) = [each for each in news if isinstance(each, Saved)]
    return saved


@pytest.fixture
def workers(
    trained: Checkpoint, stop: Any, kind: FakeKind, keeper: leases.Keeper, settings: Any, tmp_path: Path
) -> Iterator[Workers]:
    settings.MODELS_DIR, settings.LOG_DIR = tmp_path / "models", tmp_path / "log"
    settings.ENGINE_KV_CACHE_GIB, settings.TRAINING_DISK_RESERVE_BYTES = 1, 0
    jobs.register("parity", ParityKind())
    slot = Slot.here("cpu")
    workers = Workers(GpuWorker(slot, claim(keeper, slot.key), keeper), keeper, tmp_path / "voices.json", patience=200)
    yield workers
    workers.gpu.close()
    workers.close()


def test_it_works(workers: Workers, kind: FakeKind, base: Model, trained: Checkpoint, tmp_path: Path) -> None:
    """To the engine that runs, then merged with an engine of its own; an adapter that learned nothing is refused."""
    kind.add(base)
    assert workers.gpu.step()
    engine = workers.gpu.engine
    assert engine.spec.takes_adapters, "the base's job made room"
    pid = engine.group.pgid

    adapter = workers.drive(deploy(checkpoint=trained))
    assert adapter.status == Status.UNPROVEN, adapter.message
    assert "No row was kept apart" in adapter.message
    (left_out,) = adapter.parity["left_out"]
    assert (left_out["file"], left_out["line"]) == (trained.job.training_file_uid, 1)
    assert f"This model's maximum context length is {CONTEXT} tokens" in left_out["reason"]
    figures = adapter.parity["trained"]
    assert figures["asked"] == PROMPTS + 1, "one whose answer could be longer than the whole context, too"
    assert 0 < figures["tuned"]["loss"] < figures["base"]["loss"], "the engine tells how likely the references are"
    assert accept(deployment=adapter)
    assert workers.gpu.engine.group.pgid == pid
    assert adapter.name in engine.served

    zero = write_adapter(tmp_path / "zero").path
    files = {path.name: path.read_bytes() for path in zero.iterdir()}
    nothing = make_checkpoint(trained.job.project, base, files=files, job=trained.job, step=1)
    refused = workers.drive(deploy(checkpoint=nothing, name="nothing"))
    assert refused.status == Status.REFUSED
    assert refused.message.startswith("adapter_model.safetensors: Every lora_B is zero")
    assert workers.gpu.engine.group.pgid == pid

    merged = workers.drive(deploy(checkpoint=trained, kind="merged", name="merged"))
    assert merged.status == Status.UNPROVEN, (merged.message, merged.parity)
    assert merged.parity["trained"]["tuned"]["loss"] == pytest.approx(figures["tuned"]["loss"], abs=0.3)
    assert merged.parity["merged_as_adapter"] >= 0.8
    assert merged.parity["changed_as_adapter"] > merged.parity["changed_as_base"]
    assert merged.parity["merge"]["changed"] == 7 * 30, "every layer that was trained"
    assert merged.model
    assert merged.model.bytes == pytest.approx(base.folder.joinpath("model.safetensors").stat().st_size, rel=0.05)
    assert workers.gpu.engine.spec.served_name == "merged"


def test_a_merge_of_what_learned_nothing_changes_nothing(base: Model, tmp_path: Path, settings: Any) -> None:
    settings.LOG_DIR = tmp_path / "log"
    (tmp_path / "merged").mkdir()
    order = MergeOrder(
        model=base.path, adapter=str(write_adapter(tmp_path / "zero").path), folder=str(tmp_path / "merged")
    )
    merged = merge(order, log=tmp_path / "merge.log", go_on=lambda: True)
    assert merged.changed == 0
    same = (tmp_path / "merged" / "config.json").read_bytes()
    assert same == (base.folder / "config.json").read_bytes()
