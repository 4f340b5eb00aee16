"""Fine-tuning jobs and deployments for the fuzzer, several of a kind. Runs in the site's shell."""

import json

from django.utils import timezone

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.models import Checkpoint, Deployment, TrainingJob
from tests.conformance.lines import CHAT_MODEL
from tests.datasets.cast import make_version
from tests.fakes.hostile.folders import tiny_adapter, write_files
from tests.training.cast import make_file, make_job

MANY = 8  # jobs of each status
FILES = 4


def main() -> None:
    """Print ids by kind, as JSON."""
    project, model = Project.objects.get(name="ours"), Model.objects.get(name=CHAT_MODEL)
    file = make_file(project)
    ended = [make_job(project, model, file) for _ in range(MANY)]
    paused = [make_job(project, model, file, options={"max_steps": 5_000}) for _ in range(MANY)]
    checkpoints = [_checkpoint(job, step) for job in ended for step in (10, 20)]
    for job in ended:
        job.advance(TrainingJob.Status.SUCCEEDED, step=20, steps=20)
    for job in paused:
        TrainingJob.objects.filter(pk=job.pk).update(status="paused", pause_requested_at=timezone.now())
    print(
        json.dumps(
            {
                "jobs": [job.uid for job in ended + paused],
                "ended": [job.uid for job in ended],
                "checkpoints": [each.uid for each in checkpoints],
                "deployments": [_deployment(each, number).uid for number, each in enumerate(checkpoints)],
                "training_files": [make_file(project).uid for _ in range(FILES)],
                "datasets": [make_version(project, name=f"asked {number}").dataset.uid for number in range(2)],
            }
        )
    )


def _checkpoint(job: TrainingJob, step: int) -> Checkpoint:
    """With an adapter that an engine may be told to load."""
    folder = job.folder / f"checkpoint-{step}"
    write_files(folder, tiny_adapter())
    job.metrics.create(step=step, epoch=1, loss=1 / step)
    return job.checkpoints.create(step=step, path=str(folder), digest="0" * 64, bytes=1, best=step == 20)


def _deployment(checkpoint: Checkpoint, number: int) -> Deployment:
    """Every other one is served."""
    job = checkpoint.job
    name, status = f"tuned-{number}", "ready" if number % 2 else "refused"
    model = None
    if status == "ready":
        model = Model.objects.create(name=name, path=str(checkpoint.folder), base=job.base, project=job.project)
    return Deployment.objects.create(
        project=job.project, checkpoint=checkpoint, name=name, model=model, status=status
    )  # fmt: skip
