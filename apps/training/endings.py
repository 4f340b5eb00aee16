"""What becomes of a job when its trainer has ended. Called in a transaction that is fenced."""

import logging

from apps.events.services import announce
from apps.training import checkpoints
from apps.training.models import Checkpoint, JobEvent, TrainingJob
from apps.training.results import write_results
from apps.training.services import note
from apps.training.spec import Ended, Failed

TRIES = 3  # trainers in a row that died and saved nothing
NO_TRAINER = 127  # the exit code of a command that cannot run
KILLED = -9

Status = TrainingJob.Status

log = logging.getLogger(__name__)


def settle(job: TrainingJob, end: Ended | Failed | None, *, code: int | None, asked: bool) -> None:
    """`code` is the trainer's exit code; `asked`: we wanted it to end."""
    match end:
        case Ended(reason="finished" | "early"):
            _succeed(job, end)
        case Failed(code="disk_full"):
            _pause(job, end.message, code=end.code)
        case Failed():
            fail(job, end.message, code=end.code)
        case _ if job.cancel_requested_at:
            _cancel(job)
        case _ if job.pause_requested_at:
            _pause(job, "Paused.")
        case _ if end or asked:
            _make_room(job)
        case _:
            _bury(job, code)


def _succeed(job: TrainingJob, end: Ended) -> None:
    best = job.checkpoints.filter(step=end.best_step).first()
    if problem := _problem(best):
        fail(job, f"Training ended, and its result cannot be used: {problem}", code="checkpoint")
        return
    early = f" It got no better after step {end.best_step:,}." if end.reason == "early" else ""
    message = f"Trained {job.steps if not early else end.step:,} steps; step {end.best_step:,} is the result.{early}"
    job.checkpoints.filter(step=end.best_step).update(best=True)
    file = write_results(job)
    if job.advance(Status.SUCCEEDED, message=message, step=end.step, result_file=file):
        note(job, f"New fine-tuned model created: {job.model_name}")
        note(job, "The job has successfully completed.")
        announce(type="fine_tuning.job.succeeded", project=job.project, data={"id": job.uid})


def _problem(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return "it has no checkpoint."
    try:
        checkpoints.verify(checkpoint.folder, digest=checkpoint.digest)
    except checkpoints.Corrupt as error:
        return str(error)
    return ""


def fail(job: TrainingJob, message: str, *, code: str) -> None:
    """In the caller's transaction."""
    log.error("%s: %s", job.uid, message)
    if job.advance(Status.FAILED, message=message, error_code=code):
        note(job, message, level=JobEvent.Level.ERROR)
        announce(type="fine_tuning.job.failed", project=job.project, data={"id": job.uid})


def _cancel(job: TrainingJob) -> None:
    if job.advance(Status.CANCELLED, message="Cancelled."):
        note(job, "The job was cancelled.")
        announce(type="fine_tuning.job.cancelled", project=job.project, data={"id": job.uid})


def _pause(job: TrainingJob, message: str, *, code: str = "") -> None:
    if job.advance(Status.PAUSED, message=message, error_code=code):
        note(job, message, level=JobEvent.Level.WARN if code else JobEvent.Level.INFO)


def _make_room(job: TrainingJob) -> None:
    if job.advance(Status.QUEUED, message="It made room for other work, and goes on from its last checkpoint."):
        note(job, f"The job made room for other work at step {job.step:,}.")


def _bury(job: TrainingJob, code: int | None) -> None:
    """A trainer that died by itself: another goes on from the last checkpoint, but not for ever."""
    if code == NO_TRAINER:
        fail(job, "There is no trainer: run `make trainer`, or set TRAINER_PYTHON.", code="no_trainer")
        return
    likely = " It was killed, most likely because the machine's memory ran out." if code == KILLED else ""
    message = f"The trainer died with code {code}.{likely}"
    if job.tries + 1 >= TRIES:
        cure = "The log's last lines say why; lower batch_size or max_length if it was memory, and try again."
        fail(job, f"{message} That was the third time in a row. {cure}", code="trainer_died")
    elif job.advance(Status.QUEUED, message=message, tries=job.tries + 1):
        note(job, f"{message} Another goes on from the last checkpoint.", level=JobEvent.Level.WARN)
