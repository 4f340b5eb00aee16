"""From a checkpoint to a served model, with fake engines: every way, and everything that comes between."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core import leases
from apps.core.errors import Conflict, DomainError
from apps.events.models import Event
from apps.models import jobs
from apps.models.models import Model
from apps.models.services import delete_model, delete_preview
from apps.models.worker import GpuWorker
from apps.training.deployments.files import folder_of
from apps.training.deployments.proving import ParityKind, settle_deployments
from apps.training.deployments.services import accept, deploy, roll_back, undeploy
from apps.training.models import Checkpoint, Deployment
from tests.batches.cast import make_running
from tests.fakes.hostile.folders import tiny_adapter
from tests.models.engines import api_server, eventually
from tests.models.test_worker import SLOT, FakeKind, claim, keeper, kind, stop
from tests.stack.live import REPOSITORY
from tests.training.cast import example, make_job
from tests.training.deploying import LEARNED, TAUGHT, Workers, ended, folders, make_base, make_checkpoint

__all__ = ["keeper", "kind", "stop"]
pytestmark = pytest.mark.django_db(transaction=True)

Status = Deployment.Status
TUNED = {"tuned": LEARNED}


@pytest.fixture
def workers(
    stop: Any, kind: FakeKind, keeper: leases.Keeper, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Workers]:
    settings.ENGINE_PYTHON = REPOSITORY / "tests/fakes/engine/python"
    settings.TRAINER_PYTHON = REPOSITORY / "tests/fakes/trainer/python"
    settings.TRAINING_DIR, settings.MODELS_DIR = tmp_path / "training", tmp_path / "models"
    settings.LOG_DIR = tmp_path / "log"
    settings.TRAINING_DISK_RESERVE_BYTES = 0
    voices = tmp_path / "voices.json"
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_ENGINE_*")
    monkeypatch.setenv("FAKE_ENGINE_VOICES", str(voices))
    monkeypatch.setenv("FAKE_ENGINE_CALLS", str(tmp_path / "calls"))
    jobs.register("parity", ParityKind())
    gpu = GpuWorker(SLOT, claim(keeper), keeper)
    workers = Workers(gpu, keeper, voices)
    yield workers
    gpu.close()
    workers.close()


@pytest.fixture
def base(tmp_path: Path) -> Model:
    return make_base(tmp_path / "base")


@pytest.fixture
def checkpoint(project: Project, base: Model, workers: Workers) -> Checkpoint:
    return make_checkpoint(project, base)


def test_it_works(workers: Workers, kind: FakeKind, base: Model, checkpoint: Checkpoint, api: Any) -> None:
    """An adapter joins the engine that runs: the training's job has made room for it."""
    kind.add(base)
    assert workers.gpu.step()
    engine = workers.gpu.engine
    workers.say({checkpoint.job.model_name: LEARNED})
    deployment = workers.drive(deploy(checkpoint=checkpoint))
    assert (deployment.status, deployment.name) == (Status.READY, checkpoint.job.model_name)
    assert deployment.message == (
        "It learned. 8 of 8 answers that were kept apart are as taught (the base model: 0); 4 of 4 answers that it was "
        "trained on are as taught (the base model: 0). The loss of the references is 0.12 (the base model: 3.00)."
    )
    assert workers.gpu.engine is engine
    assert deployment.name in engine.served
    model = deployment.model
    assert model
    assert (model.ready, model.base, model.project) == (True, base, checkpoint.job.project)
    assert sorted(path.name for path in model.folder.iterdir() if not path.name.startswith(".")) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    parity = deployment.parity
    assert parity["prompts"][0] == {"messages": [example(12)["messages"][0]]}
    assert parity["references"][0] == {"messages": [example(12)["messages"][1]]}
    assert (parity["base"][0], parity["adapter"][0]) == ("Answer to: What is 12 + 12?", "It is 24.")
    assert parity["sources"] == ["validation"] * 8 + ["training"] * 4
    assert (parity["asked"], parity["changed"], parity["passed"], parity["verdict"]) == (12, 12, True, "learned")
    without = {"unended": 0, "judged": None, "scored": 0}
    score = {"exact": 0, "matched": 0, "loss": 3.0, **without}
    tuned = {"exact": 8, "matched": 8, "loss": 0.125, **without}
    assert parity["unseen"] == {"asked": 8, "base": score, "tuned": tuned}
    assert 0 < parity["similarity"] < 1
    assert Event.objects.get(type="model.deployed").data == {"id": deployment.uid}
    assert deployment.name in [each["id"] for each in api.get("/v1/models").json()["data"]]
    workers.tidy()
    assert folders() == [model.folder]


def test_it_refuses_what_behaves_like_the_base(workers: Workers, checkpoint: Checkpoint, api: Any) -> None:
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert deployment.status == Status.REFUSED
    assert deployment.message.startswith("It behaves like the base: all 12 prompts are answered exactly as")
    assert deployment.parity["base"] == deployment.parity["adapter"]
    assert not deployment.parity["passed"]
    workers.tidy()
    assert (list(Model.objects.values_list("name", flat=True)), folders()) == (["base"], [])
    workers.gpu.step()
    assert workers.gpu.engine.served == {"base"}
    assert not Event.objects.filter(type="model.deployed").exists()
    deploy(checkpoint=checkpoint, name="tuned")  # the name is free again


def test_what_changed_but_not_as_taught_waits_to_be_accepted(
    workers: Workers, checkpoint: Checkpoint, api: Any, project: Project
) -> None:
    workers.say({"tuned": "Who knows,"})
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert (deployment.status, deployment.parity["verdict"]) == (Status.UNPROVEN, "changed")
    assert deployment.message.startswith("It changed, but not as taught. 0 of 8 answers that were kept apart are")
    assert "Train it for more epochs" in deployment.message
    assert deployment.message.endswith("Nothing is served until it is accepted.")
    workers.tidy()
    assert folders() == [folder_of(deployment, "adapter")]
    assert "tuned" not in [each["id"] for each in api.get("/v1/models").json()["data"]]
    with pytest.raises(Conflict, match="tuned is unproven already"):
        deploy(checkpoint=checkpoint, name="tuned")
    assert accept(deployment=deployment)
    assert not accept(deployment=deployment)
    assert (deployment.status, deployment.parity["passed"]) == (Status.READY, True)
    assert deployment.message.startswith("Accepted as it is. It changed")
    assert "tuned" in [each["id"] for each in api.get("/v1/models").json()["data"]]
    assert Event.objects.get(type="model.deployed").data == {"id": deployment.uid}


@pytest.mark.parametrize("odd", ["a\0b", "\ud800"])
def test_an_answer_that_no_database_takes_ends_nothing(workers: Workers, checkpoint: Checkpoint, odd: str) -> None:
    workers.say({"tuned": LEARNED | {example(TAUGHT)["messages"][0]["content"]: odd}})
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert deployment.status == Status.READY, deployment.message
    assert "\N{REPLACEMENT CHARACTER}" in deployment.parity["adapter"][0]


def test_what_is_not_accepted_is_discarded(workers: Workers, checkpoint: Checkpoint) -> None:
    workers.say({"tuned": "Who knows,"})
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert undeploy(deployment=deployment)
    workers.tidy()
    deployment.refresh_from_db()
    assert (deployment.status, folders()) == (Status.UNDEPLOYED, [])
    with pytest.raises(DomainError, match="There is no earlier tuned"):
        roll_back(deployment=workers.drive(deploy(checkpoint=checkpoint, name="tuned")))


def test_rows_that_are_known_by_heart_are_not_learned(workers: Workers, checkpoint: Checkpoint) -> None:
    trained = dict(list(LEARNED.items())[:TAUGHT])
    workers.say({"tuned": trained})
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert (deployment.status, deployment.parity["verdict"]) == (Status.UNPROVEN, "changed")
    assert "4 of 4 answers that it was trained on are as taught" in deployment.message
    assert "by heart" in deployment.message


def test_without_rows_that_were_kept_apart_nothing_is_proven(workers: Workers, project: Project, base: Model) -> None:
    workers.say(TUNED)
    job = ended(make_job(project, base))
    deployment = workers.drive(deploy(checkpoint=make_checkpoint(project, base, job=job), name="tuned"))
    assert deployment.status == Status.UNPROVEN
    assert "No row was kept apart" in deployment.message
    assert deployment.parity["trained"]["tuned"]["matched"] == deployment.parity["trained"]["asked"] == 12
    assert deployment.parity["unseen"] is None


def test_it_refuses_a_corrupted_checkpoint(workers: Workers, checkpoint: Checkpoint) -> None:
    weights = checkpoint.folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    deployment = workers.drive(deploy(checkpoint=checkpoint))
    assert deployment.status == Status.REFUSED
    assert "is damaged: adapter_model.safetensors is not what was saved" in deployment.message
    assert (deployment.model, folders()) == (None, [])


def test_it_refuses_what_no_engine_may_load(workers: Workers, project: Project, base: Model) -> None:
    from_elsewhere = make_checkpoint(project, base, files=tiny_adapter(width=32))
    deployment = workers.drive(deploy(checkpoint=from_elsewhere))
    assert deployment.status == Status.REFUSED
    assert "it was trained on another model" in deployment.message


def test_an_engine_that_does_not_start_ends_it_with_its_words(
    workers: Workers, base: Model, checkpoint: Checkpoint
) -> None:
    deployment = workers.drive(deploy(checkpoint=checkpoint), Status.PROVING)
    (base.folder / "config.json").rename(base.folder / "hidden")
    workers.drive(deployment)
    assert deployment.status == Status.FAILED
    assert "The engine of base ended with code" in deployment.message
    workers.tidy()
    assert (Model.objects.count(), folders()) == (1, [])


def test_files_that_break_meanwhile_end_it(workers: Workers, checkpoint: Checkpoint) -> None:
    """The base and its other adapters are served all the same, so no engine tells."""
    deployment = workers.drive(deploy(checkpoint=checkpoint), Status.PROVING)
    (folder_of(deployment, "adapter") / "adapter_config.json").unlink()
    workers.drive(deployment)
    assert deployment.status == Status.FAILED
    assert "Its adapter_config.json cannot be read" in deployment.message


def test_an_engine_that_dies_meanwhile_ends_it(workers: Workers, project: Project, base: Model) -> None:
    deadly = example(0)
    deadly["messages"][0]["content"] = "!die"
    checkpoint = make_checkpoint(project, base, rows=[*map(example, range(1, 11)), deadly])
    deployment = workers.drive(deploy(checkpoint=checkpoint))
    assert deployment.status == Status.REFUSED, "the first four of them are asked"
    deadly_first = make_checkpoint(project, base, rows=[deadly, *map(example, range(10))])
    failed = workers.drive(deploy(checkpoint=deadly_first))
    assert failed.status == Status.FAILED
    assert "did not answer" in failed.message


def test_it_survives_a_gpu_worker_that_is_killed(
    workers: Workers, checkpoint: Checkpoint, keeper: leases.Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on asks what is left."""
    workers.say(TUNED)
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"), Status.PROVING)
    monkeypatch.setattr(workers.gpu, "go_on", lambda: len(_calls(tmp_path)) < 10)
    workers.gpu.step()
    deployment.refresh_from_db()
    assert len(deployment.parity["base"]) == 5
    workers.gpu.close()
    with keeper_anew(keeper) as gpu:
        workers.gpu = gpu
        workers.drive(deployment)
        assert deployment.status == Status.READY
    assert len(_calls(tmp_path)) == 2 * 2 * 12, "each reads its answers, and the references"


class keeper_anew:  # noqa: N801 - reads as what it does
    def __init__(self, keeper: leases.Keeper) -> None:
        self._keeper = keeper

    def __enter__(self) -> GpuWorker:
        self._gpu = GpuWorker(SLOT, claim(self._keeper), self._keeper)
        return self._gpu

    def __exit__(self, *_: object) -> None:
        self._gpu.close()


def _calls(folder: Path) -> list[str]:
    calls = folder / "calls"
    return [line for line in calls.read_text().splitlines() if "What is" in line] if calls.exists() else []


def test_it_survives_a_control_worker_that_is_killed(workers: Workers, checkpoint: Checkpoint) -> None:
    """What it left in the folders is in nobody's way."""
    workers.say(TUNED)
    deployment = deploy(checkpoint=checkpoint, name="tuned")
    folder = folder_of(deployment, "adapter")
    for left in (folder, folder.with_name(f"{folder.name}.incoming")):
        left.mkdir(parents=True)
        (left / "adapter_model.safetensors").write_bytes(b"half")
    workers.tidy()
    assert len(folders()) == 2, "they are the deployment's"
    assert workers.drive(deployment).status == Status.READY
    assert folders() == [folder]


def test_it_is_taken_back(workers: Workers, kind: FakeKind, base: Model, checkpoint: Checkpoint, api: Any) -> None:
    workers.say(TUNED)
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    engine = workers.gpu.engine
    assert deployment.model
    batch = make_running(checkpoint.job.project, deployment.model)
    with pytest.raises(Conflict, match="1 batches need tuned now"):
        undeploy(deployment=deployment)
    assert deployment.status == Status.READY
    batch.delete()
    assert undeploy(deployment=deployment)
    taken_back = Deployment.objects.get()
    assert (taken_back.status, taken_back.model, taken_back.message) == (Status.UNDEPLOYED, None, "Taken back.")
    assert not undeploy(deployment=deployment)
    assert "tuned" not in [each["id"] for each in api.get("/v1/models").json()["data"]]
    workers.gpu.step()
    assert engine.served == {"base"}
    assert deployment.parity["passed"], "its history stays"


def test_it_is_rolled_back(workers: Workers, base: Model, checkpoint: Checkpoint, project: Project) -> None:
    """The one before is served again, by its own files."""
    workers.say(TUNED)
    first = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    with pytest.raises(DomainError, match="There is no earlier tuned whose files are kept"):
        roll_back(deployment=first)
    assert first.status == Status.READY
    undeploy(deployment=first)
    second = workers.drive(deploy(checkpoint=make_checkpoint(project, base), name="tuned"))
    workers.tidy()
    assert roll_back(deployment=second) == first
    first.refresh_from_db()
    assert (first.status, second.status, second.model) == (Status.READY, Status.UNDEPLOYED, None)
    assert first.model
    assert (first.model.ready, first.model.folder) == (True, folder_of(first, "adapter"))
    assert first.model.revision
    workers.gpu.step()
    assert workers.gpu.engine.served == {"base"}, "the old files' adapter has left"


def test_files_of_the_last_two_of_a_name_are_kept(
    workers: Workers, base: Model, checkpoint: Checkpoint, project: Project
) -> None:
    workers.say(TUNED)
    made = []
    for _ in range(3):
        made.append(workers.drive(deploy(checkpoint=checkpoint, name="tuned")))
        undeploy(deployment=made[-1])
        workers.tidy()
    assert folders() == sorted(folder_of(each, "adapter") for each in made[1:])
    assert roll_back(deployment=made[2]) == made[1]


def test_a_model_that_was_deleted_is_taken_back(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    workers.say(TUNED)
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert deployment.model
    assert "is kept, so that its deployment" in delete_preview(model=deployment.model).files_stay
    delete_model(model=deployment.model)
    assert settle_deployments(workers.keeper)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.message) == (Status.UNDEPLOYED, "Deleted.")


def test_whoever_deletes_the_base_sees_what_needs_it(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    deploy(checkpoint=checkpoint, name="tuned")
    preview = delete_preview(model=base)
    uses = {use.what: (use.total, use.running) for use in preview.uses}
    assert uses["deployments"] == (1, 1)
    assert "1 deployments need base now: wait for them, or cancel them." in preview.blockers


def test_it_rejects_names_that_are_taken(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    deploy(checkpoint=checkpoint, name="tuned")
    with pytest.raises(Conflict, match="tuned is queued already: take that deployment back first"):
        deploy(checkpoint=checkpoint, name="tuned")
    for name, says in {"base": "A model is called 'base' already", "a b": "A model's name has 1 to 200"}.items():
        with pytest.raises(DomainError, match=says):
            deploy(checkpoint=checkpoint, name=name)


def test_a_name_that_was_taken_meanwhile_fails(workers: Workers, tmp_path: Path, checkpoint: Checkpoint) -> None:
    deployment = deploy(checkpoint=checkpoint, name="tuned")
    make_base(tmp_path / "other", "tuned")
    assert workers.drive(deployment).status == Status.FAILED
    assert deployment.message == "A model is called 'tuned' by now: deploy it under another name."


def test_it_rejects_other_nonsense(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    with pytest.raises(DomainError, match="kind is one of adapter, merged"):
        deploy(checkpoint=checkpoint, kind="gguf")
    base.delete()
    checkpoint.refresh_from_db()
    with pytest.raises(DomainError, match="The model base that it was trained on was deleted"):
        deploy(checkpoint=Checkpoint.objects.get())


def test_an_adapter_of_a_higher_rank_gets_another_engine(
    workers: Workers, kind: FakeKind, project: Project, base: Model
) -> None:
    kind.add(base)
    assert workers.gpu.step()
    engine = workers.gpu.engine
    assert not engine.spec.takes_adapters
    workers.say(TUNED)
    deployment = workers.drive(deploy(checkpoint=make_checkpoint(project, base), name="tuned"))
    assert deployment.status == Status.READY
    assert workers.gpu.engine is not engine


def test_an_engine_that_is_killed_while_it_waits_ends_nothing(
    workers: Workers, base: Model, checkpoint: Checkpoint
) -> None:
    workers.say(TUNED)
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    os.kill(api_server(workers.gpu.engine), signal.SIGKILL)
    assert eventually(lambda: not workers.gpu.engine.alive())
    workers.gpu.step()
    settle_deployments(workers.keeper)
    deployment.refresh_from_db()
    assert deployment.status == Status.READY
