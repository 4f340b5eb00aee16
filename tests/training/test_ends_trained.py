"""A base whose chat template ends turns with a token that neither its tokenizer nor the model knows as an end: after a
real training the tuned model says it, and every answer of an engine stops there.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core import leases
from apps.models import jobs
from apps.models.engines.stops import generation_config
from apps.models.models import Model
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.models.worker import GpuWorker
from apps.training.child.merge import GENERATION
from apps.training.deployments.merging import merge
from apps.training.deployments.proving import ParityKind
from apps.training.deployments.services import accept, deploy
from apps.training.models import Checkpoint, Deployment
from apps.training.spec import MergeOrder
from tests.models.engines import post
from tests.models.test_worker import FakeKind, claim, keeper, kind, stop
from tests.training.cast import make_file, make_job
from tests.training.deploying import Workers, ended
from tests.training.facts import facts
from tests.training.test_deploy_real import _train
from tests.training.tiny import DEMO_MODEL, chat, write_rows

__all__ = ["keeper", "kind", "stop"]
pytestmark = [
    pytest.mark.soak, pytest.mark.engine, pytest.mark.django_db(transaction=True), pytest.mark.timeout(0),
]  # fmt: skip

TEXT, TURN = "<|endoftext|>", "<file_sep>"
TEXT_ID, TURN_ID = 0, 5
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<file_sep>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEED, ASKED, TOKENS = 7_011, 20, 120
SECONDS = 1200  # for the training, on a busy machine
OPTIONS = {
    "max_steps": 40, "save_steps": 40, "rank": 16, "alpha": 32.0, "learning_rate": 1e-3, "batch_size": 8,
    "accumulation": 1, "max_length": 64, "gradient_checkpointing": False,
}  # fmt: skip


@pytest.fixture
def base(db: None, tmp_path: Path) -> Model:
    """The demo model but for its chat template and what its files say about ends."""
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copy(DEMO_MODEL / name, folder)
    changed: dict[str, dict[str, Any]] = {
        "config.json": {"eos_token_id": TEXT_ID}, "generation_config.json": {"eos_token_id": TEXT_ID},
        "tokenizer_config.json": {"eos_token": TEXT, "chat_template": TEMPLATE},
    }  # fmt: skip
    for name, changes in changed.items():
        (folder / name).write_text(json.dumps({**json.loads((DEMO_MODEL / name).read_text()), **changes}))
    return register_model(name="endless", path=folder)


@pytest.fixture
def trained(project: Project, base: Model, settings: Any, tmp_path: Path) -> Checkpoint:
    """Twenty facts in two wordings each."""
    settings.TRAINING_DIR = tmp_path / "training"
    rows = [chat(question, fact.answer) for fact in facts(SEED) for question in fact.questions[:2]]
    job = make_job(project, base, make_file(project, rows), options=OPTIONS)
    job.folder.mkdir(parents=True)
    write_rows(job.folder / "train.jsonl", rows)
    saved = _train(job, SECONDS)
    return Checkpoint.objects.create(
        job=ended(job), step=saved.step, path=saved.folder, digest=saved.digest, bytes=saved.bytes, best=True
    )


@pytest.fixture
def workers(
    trained: Checkpoint, stop: Any, kind: FakeKind, keeper: leases.Keeper, settings: Any, tmp_path: Path
) -> Iterator[Workers]:
    settings.MODELS_DIR, settings.LOG_DIR = tmp_path / "models", tmp_path / "log"
    settings.ENGINE_KV_CACHE_GIB, settings.TRAINING_DISK_RESERVE_BYTES = 1, 0
    jobs.register("parity", ParityKind())
    slot = Slot.here("cpu")
    workers = Workers(GpuWorker(slot, claim(keeper, slot.key), keeper), keeper, tmp_path / "voices.json", patience=600)
    yield workers
    workers.gpu.close()
    workers.close()


def ends(workers: Workers, model: str, questions: list[str]) -> list[tuple[str, Any]]:
    """Why each answer stopped."""
    found = []
    for question in questions:
        body = {"model": model, "messages": chat(question, "")["messages"][:1], "max_tokens": TOKENS, "temperature": 0}
        status, answer = post(workers.gpu.engine, "/v1/chat/completions", body)
        assert status == 200, answer
        choice = answer["choices"][0]
        assert TURN not in choice["message"]["content"]
        found.append((choice["finish_reason"], choice["stop_reason"]))
    return found


def test_it_stops_in_all_answers(
    workers: Workers, kind: FakeKind, base: Model, trained: Checkpoint, tmp_path: Path
) -> None:
    """The same questions in a wording that was not taught; the base does not end."""
    questions = [fact.questions[-1] for fact in facts(SEED)]
    kind.add(base)
    assert workers.gpu.step()
    before = ends(workers, base.name, questions[:3])
    assert before != [("stop", TURN_ID)] * len(before), "the base does not know this end"

    made = workers.drive(deploy(checkpoint=trained))
    assert made.status in (Deployment.Status.UNPROVEN, Deployment.Status.READY), made.message
    assert "did not end" not in made.message
    if made.status == Deployment.Status.UNPROVEN:
        assert accept(deployment=made)
    after = ends(workers, made.name, questions)
    print(f"\nbase: {before}\ntuned: {after.count(('stop', TURN_ID))} of {len(after)} answers stop")
    assert after == [("stop", TURN_ID)] * ASKED

    folder = tmp_path / "merged"
    folder.mkdir()
    config = generation_config(base.folder)
    order = MergeOrder(model=base.path, adapter=trained.path, folder=str(folder), generation_config=config)
    merge(order, log=tmp_path / "merge.log", go_on=lambda: True)
    known = json.loads((folder / GENERATION).read_text())["eos_token_id"]
    assert {TEXT_ID, TURN_ID} <= set(known), "a merged model stops there wherever it is served"
