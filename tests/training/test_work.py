"""The job kind with the fake trainer's real processes: turns, ends, and everything that comes between."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import Project
from apps.batches.models import File
from apps.core import guard, leases
from apps.core.process import ProcessGroup
from apps.events.models import Event
from apps.models.models import Device, Model
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.training import work
from apps.training.models import TrainingJob
from apps.training.services import cancel_job, create_job, pause_job, resume_job
from apps.training.trainer import Trainer
from apps.training.work import TrainingKind, go_on_where_there_is_room
from tests.models.engines import eventually
from tests.stack.live import REPOSITORY

pytestmark = pytest.mark.django_db(transaction=True)

Status = TrainingJob.Status


class Host:
    """An `EngineHost` whose device is bare."""

    slot = Slot.here("cpu")

    def __init__(self) -> None:
        self.going, self.stopping = True, False
        self.groups: list[ProcessGroup] = []
        self.on_record: Callable[[], None] = lambda: None

    def record(self, group: ProcessGroup) -> None:
        self.groups.append(group)
        self.on_record()

    def go_on(self) -> bool:
        return self.going and not self.stopping

    def must_stop(self) -> bool:
        return self.stopping

    def patience(self) -> float:
        return 5.0


@pytest.fixture(autouse=True)
def trainer(settings: Any, tmp_path: Path) -> None:
    settings.TRAINER_PYTHON = REPOSITORY / "tests/fakes/trainer/python"
    settings.TRAINING_DIR = tmp_path / "training"
    settings.TRAINING_DISK_RESERVE_BYTES = 0
    Device.objects.create(slot=Slot.here("cpu").key, name="A processor")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def base(tmp_path: Path) -> Model:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return register_model(name="base", path=folder)


def tell(base: Model, **does: Any) -> None:
    """What the fake does next."""
    (base.folder / "fake_trainer.json").write_text(json.dumps(does))


def make_job(project: Project, base: Model, *, method: str = "sft", **options: Any) -> TrainingJob:
    """A job whose files were read."""
    file = File.objects.create(
        project=project, filename="f", purpose="fine-tune", bytes=1, sha256="0" * 64, content="f"
    )
    job = create_job(project=project, base=base, training_file=file, method=method, options=options)
    job.folder.mkdir(parents=True)
    (job.folder / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 10)
    job.advance(Status.QUEUED, examples=10)
    return job


def run(host: Host, keeper: leases.Keeper, job: TrainingJob) -> TrainingJob:
    TrainingKind().run(host, keeper, 0)  # type: ignore[arg-type] # it is asked for no engine
    job.refresh_from_db()
    return job


def during(host: Host, job: TrainingJob, act: Callable[[], Any], *, step: int = 3) -> threading.Thread:
    """Act once the job has come to a step."""

    def wait() -> None:
        assert eventually(lambda: TrainingJob.objects.get(pk=job.pk).step >= step)
        act()
        connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_it_works(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    job = run(host, keeper, make_job(project, base, max_steps=20))
    assert (job.status, job.step, job.steps, job.trained_tokens) == (Status.SUCCEEDED, 20, 20, 50), job.message
    assert [metric.step for metric in job.metrics.all()] == list(range(1, 21))
    assert job.metrics.exclude(valid_loss=None).count() == 5
    assert [checkpoint.step for checkpoint in job.checkpoints.all()] == [20, 16, 12, 8, 4]
    assert job.result
    assert (job.result.step, job.result.bytes > 0) == (20, True)
    assert job.result_file
    assert job.result_file.purpose == "fine-tune-results"
    assert str(job.device) == "A processor"
    assert Event.objects.filter(type="fine_tuning.job.succeeded", data__id=job.uid).count() == 1
    assert job.events.filter(message=f"New fine-tuned model created: {job.model_name}").exists()
    assert job.events.filter(message__startswith="Step 1/20: training loss=").exists()
    assert all(guard.family(group.pgid) == set() for group in host.groups)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_rewards_are_kept(project: Project, base: Model, host: Host, keeper: leases.Keeper, method: str) -> None:
    job = make_job(project, base, method=method, max_steps=4, save_steps=4)
    assert run(host, keeper, job).status == Status.SUCCEEDED
    rewards = list(job.metrics.values_list("reward_chosen", "reward_rejected", "reward_margin"))
    assert rewards == [(0.25, -0.25, 0.5), (0.5, -0.5, 1.0), (0.75, -0.75, 1.5), (1.0, -1.0, 2.0)]
    last = job.metrics.get(step=4)
    assert (last.valid_reward_margin, last.valid_kl, last.kl) == (2.0, 0.5, 0.5)
    assert last.reward_accuracy == last.valid_reward_accuracy == (1.0 if method == "dpo" else None)
    told = job.events.filter(type="metrics", data__step=4).get()
    assert told.data["train_reward_margin"] == 2.0
    assert job.result_file
    with job.result_file.content.open("rb") as file:
        assert b"valid_reward_margin" in file.readline()


def test_what_a_trainer_leaves_out_is_listed_anew(
    project: Project, base: Model, host: Host, keeper: leases.Keeper
) -> None:
    """Before a device was taken there may have been no time to read all rows."""
    rows = [{"file": "training", "line": line, "reason": "it is too long."} for line in (3, 5)]
    tell(base, left_out=rows[:1], step_seconds=0.1)
    job = make_job(project, base, max_steps=10, save_steps=5)
    thread = during(host, job, lambda: setattr(host, "going", False), step=1)
    run(host, keeper, job)
    thread.join()
    first = job.left_out_file
    assert (job.status, job.left_out) == (Status.QUEUED, 1)
    assert first
    host.going = True
    tell(base, left_out=rows)
    assert run(host, keeper, job).status == Status.SUCCEEDED
    assert job.left_out_file
    with job.left_out_file.content.open("rb") as content:
        assert [json.loads(line) for line in content] == [
            {"file": job.training_file_uid, "line": row["line"], "part": "training", "reason": row["reason"]}
            for row in rows
        ]
    assert not File.objects.filter(pk=first.pk).exists()
    assert not first.content.storage.exists(str(first.content))


def test_a_list_that_is_the_same_stays(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    tell(base, left_out=[{"file": "training", "line": 3, "reason": "it is too long."}], step_seconds=0.1)
    job = make_job(project, base, max_steps=10, save_steps=5)
    thread = during(host, job, lambda: setattr(host, "going", False), step=1)
    first = run(host, keeper, job).left_out_file
    thread.join()
    host.going = True
    assert run(host, keeper, job).left_out_file == first is not None


def test_the_plan_sees_what_waits(project: Project, base: Model) -> None:
    job = make_job(project, base, max_steps=20)
    (planned,) = TrainingKind().backlog()
    assert (planned.model_id, planned.waiting, planned.seconds) == (None, 1, 600)
    TrainingJob.objects.filter(pk=job.pk).update(step=5, steps=20, seconds=10)
    assert [(job.waiting, job.seconds) for job in TrainingKind().backlog()] == [(15, 30)]
    with connection.cursor() as cursor:
        leases.claim(cursor, f"training:{job.pk}", "somebody")
    assert TrainingKind().backlog() == [], "somebody trains it"


def test_the_highest_priority_goes_first(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    low, high = make_job(project, base, max_steps=2), make_job(project, base, max_steps=2)
    TrainingJob.objects.filter(pk=high.pk).update(priority=5)
    for job in (low, high):
        assert run(host, keeper, job).status == Status.SUCCEEDED
    low.refresh_from_db()
    high.refresh_from_db()
    assert high.started_at
    assert low.started_at
    assert high.started_at < low.started_at


def test_it_makes_room_and_goes_on(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    tell(base, step_seconds=0.1)
    job = make_job(project, base, max_steps=30, save_steps=30)
    thread = during(host, job, lambda: setattr(host, "going", False))
    assert run(host, keeper, job).status == Status.QUEUED
    thread.join()
    assert 3 <= job.step < 30
    assert job.checkpoints.get().step == job.step, "what was done is saved"
    host.going = True
    tell(base)
    assert run(host, keeper, job).status == Status.SUCCEEDED
    assert job.metrics.count() == 30
    assert job.seconds > 0.3


def test_it_is_cancelled_within_seconds(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    tell(base, step_seconds=0.2)
    job = make_job(project, base, max_steps=500)
    thread = during(host, job, lambda: cancel_job(job=TrainingJob.objects.get(pk=job.pk)))
    assert run(host, keeper, job).status == Status.CANCELLED
    thread.join()
    assert job.ended_at
    assert Event.objects.filter(type="fine_tuning.job.cancelled", data__id=job.uid).count() == 1
    assert not cancel_job(job=job)


def test_it_is_paused_and_resumed(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    tell(base, step_seconds=0.1)
    job = make_job(project, base, max_steps=30, save_steps=30)
    thread = during(host, job, lambda: pause_job(job=TrainingJob.objects.get(pk=job.pk)))
    assert run(host, keeper, job).status == Status.PAUSED
    thread.join()
    paused_at = job.step
    assert run(host, keeper, job).step == paused_at, "a paused job waits"
    assert resume_job(job=job)
    tell(base)
    assert run(host, keeper, job).status == Status.SUCCEEDED
    assert job.metrics.count() == 30


@pytest.mark.parametrize("method", TrainingJob.Method.values)
def test_it_survives_a_trainer_that_is_killed(
    project: Project, base: Model, host: Host, keeper: leases.Keeper, method: str
) -> None:
    tell(base, step_seconds=0.05)
    job = make_job(project, base, method=method, max_steps=30, save_steps=5)

    def kill() -> None:
        (child,) = guard.family(host.groups[-1].pgid) - {host.groups[-1].pgid}
        os.kill(child, signal.SIGKILL)

    thread = during(host, job, kill, step=12)
    assert run(host, keeper, job).status == Status.SUCCEEDED
    thread.join()
    assert len(host.groups) == 2
    assert [metric.step for metric in job.metrics.all()] == list(range(1, 31))
    assert job.events.filter(level="warn", message__contains="Another goes on").count() == 1
    assert job.tries == 0, "the second one has saved something"


@pytest.mark.parametrize("method", TrainingJob.Method.values)
def test_it_gives_up_on_a_trainer_that_dies_again_and_again(
    project: Project, base: Model, host: Host, keeper: leases.Keeper, method: str
) -> None:
    tell(base, die_at=3)
    job = run(host, keeper, make_job(project, base, method=method, max_steps=30, save_steps=10))
    assert (job.status, job.error_code, len(host.groups)) == (Status.FAILED, "trainer_died", 3)
    assert "memory ran out" in job.message
    assert Event.objects.filter(type="fine_tuning.job.failed", data__id=job.uid).count() == 1


def test_it_says_why_training_failed(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    tell(base, fail_at=2, code="out_of_memory", message="Lower batch_size to 1.")
    job = run(host, keeper, make_job(project, base))
    assert (job.status, job.error_code, job.message) == (Status.FAILED, "out_of_memory", "Lower batch_size to 1.")


def test_it_survives_a_full_disk(
    project: Project, base: Model, host: Host, keeper: leases.Keeper, settings: Any
) -> None:
    tell(base, fail_at=7, code="disk_full", message="The disk is full: make room.")
    job = run(host, keeper, make_job(project, base, max_steps=20))
    assert (job.status, job.message, job.step) == (Status.PAUSED, "The disk is full: make room.", 6)
    settings.TRAINING_DISK_RESERVE_BYTES = 2**60
    assert not go_on_where_there_is_room(keeper)
    settings.TRAINING_DISK_RESERVE_BYTES = 0
    assert go_on_where_there_is_room(keeper)
    tell(base)
    assert run(host, keeper, job).status == Status.SUCCEEDED
    assert job.metrics.count() == 20


def test_it_says_where_a_trainer_comes_from(
    project: Project, base: Model, host: Host, keeper: leases.Keeper, settings: Any
) -> None:
    settings.TRAINER_PYTHON = Path("/nowhere/python")
    job = run(host, keeper, make_job(project, base))
    assert (job.status, job.error_code) == (Status.FAILED, "no_trainer")
    assert "make trainer" in job.message


def test_it_refuses_a_result_that_was_changed(
    project: Project, base: Model, host: Host, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base, max_steps=4, save_steps=4)

    class Spoilt(Trainer):
        def wait(self, timeout: float | None = None) -> int | None:
            code = super().wait(timeout)
            if code is not None:
                (job.folder / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"something else")
            return code

    monkeypatch.setattr(work, "Trainer", Spoilt)
    assert (run(host, keeper, job).status, job.error_code) == (Status.FAILED, "checkpoint")


def test_it_survives_the_loss_of_its_lease(project: Project, base: Model, host: Host, keeper: leases.Keeper) -> None:
    """Another worker has the job now: nothing more of ours is written, and our trainer is dead."""
    tell(base, step_seconds=0.05)
    job = make_job(project, base, max_steps=200)

    def rob() -> None:
        with connection.cursor() as cursor:
            leases.revoke(cursor, [f"training:{job.pk}"])
            leases.claim(cursor, f"training:{job.pk}", "another")

    thread = during(host, job, rob)
    assert run(host, keeper, job).status == Status.RUNNING
    thread.join()
    assert job.step < 200
    assert guard.family(host.groups[0].pgid) == set()
