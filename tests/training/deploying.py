"""Jobs that have ended, their checkpoints, and workers that carry a deployment on."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.accounts.models import Project
from apps.core import leases
from apps.models.installs.boot import settle_boots
from apps.models.models import Model
from apps.models.removal import remove_unused_files
from apps.models.services import register_model
from apps.models.worker import GpuWorker
from apps.training import checkpoints
from apps.training.deployments import placing
from apps.training.deployments.proving import settle_deployments
from apps.training.models import Checkpoint, Deployment, TrainingJob
from tests.fakes.hostile.folders import tiny_adapter, tiny_model, write_files
from tests.training.cast import example, make_file, make_job

WAIT_SECONDS = 60.0
TAUGHT, KEPT_APART = 12, 8  # rows of the usual files, and how many of each a deployment is asked: these four, those all
LEARNED = {
    question["content"]: answer["content"]
    for question, answer in (example(number)["messages"] for number in range(TAUGHT + KEPT_APART))
}
"""What a model says that learned the usual files; see `FAKE_ENGINE_VOICES`."""
GOING = Deployment.GOING


def make_base(folder: Path, name: str = "base") -> Model:
    """A model that is admitted, in a folder that may be written to."""
    write_files(folder, tiny_model())
    return register_model(name=name, path=folder)


def make_checkpoint(
    project: Project, base: Model, *, step: int = 10, technique: str = "lora", files: dict[str, Any] | None = None,
    rows: list[Any] | None = None, job: TrainingJob | None = None,
) -> Checkpoint:  # fmt: skip
    """The result of a job that has ended; of `job`, where it is given. It was validated with rows of their own."""
    if job is None:
        valid = make_file(project, map(example, range(TAUGHT, TAUGHT + KEPT_APART)))
        file = make_file(project, rows)
        job = ended(make_job(project, base, file, technique=technique, validation_file=valid))
    folder = job.folder / f"checkpoint-{step}"
    write_files(folder, files or (tiny_model(hidden_act="silu") if technique == "full" else tiny_adapter()))
    sealed = checkpoints.seal(folder, step=step, metrics={})
    return Checkpoint.objects.create(
        job=job, step=step, path=str(folder), digest=sealed.digest, bytes=sealed.bytes, best=True
    )


def ended(job: TrainingJob) -> TrainingJob:
    job.advance(TrainingJob.Status.SUCCEEDED, step=10, steps=10, examples=12)
    return job


class Workers:
    """A control worker and a GPU worker, in this thread; files are brought in threads of this process."""

    def __init__(self, gpu: GpuWorker, keeper: leases.Keeper, voices: Path, *, patience: float = WAIT_SECONDS) -> None:
        self.gpu, self.keeper, self._voices, self._patience = gpu, keeper, voices, patience
        self.say({})

    def say(self, voices: dict[str, Any]) -> None:
        """How the engines' models begin their answers from now on, or what they answer."""
        draft = self._voices.with_suffix(".draft")
        draft.write_text(json.dumps(voices))
        draft.replace(self._voices)

    def drive(self, deployment: Deployment, *until: str) -> Deployment:
        """Until it has one of these states; without any, until it has ended."""
        self.when(lambda: deployment.status in until if until else deployment.status not in GOING, deployment)
        return deployment

    def when(self, condition: Callable[[], bool], deployment: Deployment) -> None:
        deadline = time.monotonic() + self._patience
        while not condition():
            assert time.monotonic() < deadline, f"{deployment.status}: {deployment.message}"
            placing.place_next(self.keeper)
            if deployment.status == Deployment.Status.PROVING:
                self.gpu.step()
                settle_deployments(self.keeper)
            time.sleep(0.02)
            deployment.refresh_from_db()

    def tidy(self) -> None:
        """What nobody needs goes."""
        settle_deployments(self.keeper)
        settle_boots(self.keeper)
        while remove_unused_files(self.keeper):
            pass

    def close(self) -> None:
        """The control worker loses its leases, and its threads end."""
        for held in [held for held in self.keeper._held if held.key.startswith("deployment:")]:
            self.keeper.remove(held)
        assert placing.crew.wait(30)


def folders() -> list[Path]:
    """Of deployments, whatever is in them."""
    return sorted(settings.MODELS_DIR.glob("deployment--*/[!.]*"))
