"""What can be done with fine-tuning jobs; the API, the admin and the commands call these.

Deployments have a module of their own: `deployments`.
"""

import re
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import ApiKey, Project
from apps.batches.models import File
from apps.batches.services import check_metadata
from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Export
from apps.events import progress
from apps.events.services import announce
from apps.models.models import Model
from apps.training import presets
from apps.training.estimates import parameters_of
from apps.training.models import JobEvent, TrainingJob
from apps.training.options import OptionsRefused, parse

TOPIC = "training"
SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
EXPORT_FORMATS = {
    TrainingJob.Method.SFT.value: "chat", TrainingJob.Method.DPO.value: "dpo", TrainingJob.Method.KTO.value: "kto",
}  # fmt: skip
"""To train on, by method."""
RETRYABLE = (TrainingJob.Status.FAILED, TrainingJob.Status.CANCELLED)

Status = TrainingJob.Status


def create_job(  # noqa: PLR0913 - a choice each
    *,
    project: Project,
    base: Model,
    training_file: File,
    validation_file: File | None = None,
    method: str = TrainingJob.Method.SFT,
    technique: str = TrainingJob.Technique.LORA,
    options: dict[str, Any] | None = None,
    suffix: str = "",
    hyperparameters: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    priority: int = 0,
    created_by: User | None = None,
    api_key: ApiKey | None = None,
    retry_of: TrainingJob | None = None,
) -> TrainingJob:
    """A job whose files wait to be read. `options` go over what fits the model and its rows. Raises `DomainError`."""
    check_base(base, project)
    _check_file(training_file, project, "training_file")
    if validation_file:
        _check_file(validation_file, project, "validation_file")
    if suffix and not SUFFIX.fullmatch(suffix):
        message = "A suffix has 1 to 64 letters, digits and . _ -, and begins with a letter or digit."
        raise DomainError(message, param="suffix")
    if method not in TrainingJob.Method.values:
        raise DomainError(f"method is one of {', '.join(TrainingJob.Method.values)}.", param="method")
    if technique not in TrainingJob.Technique.values:
        raise DomainError(f"technique is one of {', '.join(TrainingJob.Technique.values)}.", param="technique")
    check_metadata(metadata)
    with transaction.atomic():
        job = TrainingJob.objects.create(
            project=project,
            base=base,
            base_name=base.name,
            base_revision=base.revision,
            training_file=training_file,
            training_file_uid=training_file.uid,
            validation_file=validation_file,
            validation_file_uid=validation_file.uid if validation_file else "",
            export=Export.objects.of(project).filter(file=training_file).first(),
            suffix=suffix,
            method=method,
            technique=technique,
            options=whole_options(base, options or {}, method=method, technique=technique),
            chosen=options or {},
            hyperparameters=hyperparameters or {},
            metadata=metadata,
            priority=priority,
            created_by=created_by,
            api_key=api_key,
            retry_of=retry_of,
        )
        note(job, "Created fine-tuning job. Its files are being read.")
        _tell(job)
    job.refresh_from_db()
    return job


def method_of(export_format: str) -> str:
    """The method that learns from an export's format; supervised for those that none is made for."""
    return next((method for method, made in EXPORT_FORMATS.items() if made == export_format), TrainingJob.Method.SFT)


def check_base(base: Model, project: Project) -> None:
    """Raises `DomainError` for what cannot be trained."""
    if not base.ready or base.project not in (None, project):
        raise DomainError(f"The model {base.name!r} does not exist.", param="model", code="model_not_found")
    if base.base is not None:
        message = f"{base.name} is an adapter: train on {base.base.name}, or deploy it merged and train on that."
        raise DomainError(message, param="model")
    if base.runner != Model.Runner.GENERATE:
        raise DomainError(f"{base.name} computes embeddings: only models that write text are trained.", param="model")


def whole_options(
    base: Model, chosen: dict[str, Any], *, method: str = TrainingJob.Method.SFT, technique: str = "lora"
) -> dict[str, Any]:
    """What was chosen, over what fits the model, until its rows are counted. Raises `DomainError`."""
    raw = presets.usual(parameters_of(base), method, technique) | chosen  # type: ignore[arg-type] # the columns' choices
    try:
        parse(raw)
    except OptionsRefused as error:
        raise DomainError(str(error), param=next(iter(error.problems), "options") or "options") from error
    if method == TrainingJob.Method.KTO and raw["batch_size"] < presets.LEAST_BATCH_OF_THUMBS:
        message = "KTO compares the answers of a batch with each other: set batch_size to 2 or more."
        raise DomainError(message, param="batch_size")
    return raw


def plan_of(job: TrainingJob, base: Model, data: presets.Data) -> presets.Plan:
    """What the job will be trained with, now that its rows are counted."""
    multiplier = job.hyperparameters.get("learning_rate_multiplier")
    return presets.plan(
        parameters_of(base),
        data,
        chosen=job.chosen,
        method=job.method,  # type: ignore[arg-type] # the column's choices are the type's
        technique=job.technique,  # type: ignore[arg-type]
        multiplier=multiplier if isinstance(multiplier, int | float) else 1.0,
    )


def cancel_job(*, job: TrainingJob) -> bool:
    """Stop it within seconds; its checkpoints stay. False when it has ended, or was cancelled before."""
    with transaction.atomic():
        waiting = (Status.VALIDATING, Status.QUEUED, Status.PAUSED)
        asked = TrainingJob.objects.filter(pk=job.pk, status__in=TrainingJob.OPEN, cancel_requested_at=None)
        if not asked.update(cancel_requested_at=Now()):
            return False
        job.refresh_from_db()
        if job.advance(Status.CANCELLED, since=waiting, message="Cancelled."):
            note(job, "The job was cancelled.")
            announce(type="fine_tuning.job.cancelled", project=job.project, data={"id": job.uid})
        _tell(job)
    return True


def pause_job(*, job: TrainingJob) -> bool:
    """Save what is learned and let go of the device. False when it does not want one."""
    wanting = (Status.VALIDATING, Status.QUEUED, Status.RUNNING)
    with transaction.atomic():
        asked = TrainingJob.objects.filter(
            pk=job.pk, status__in=wanting, pause_requested_at=None, cancel_requested_at=None
        )
        if not asked.update(pause_requested_at=Now()):
            return False
        job.refresh_from_db()
        if job.advance(Status.PAUSED, since=(Status.QUEUED,), message="Paused."):
            note(job, "The job was paused.")
        _tell(job)
    return True


def resume_job(*, job: TrainingJob) -> bool:
    """Go on from the last checkpoint. False when it is not paused, nor about to be."""
    with transaction.atomic():
        paused = Q(status=Status.PAUSED) | Q(status__in=TrainingJob.OPEN, pause_requested_at__isnull=False)
        asked = TrainingJob.objects.filter(paused, pk=job.pk, cancel_requested_at=None)
        if not asked.update(pause_requested_at=None):
            return False
        job.refresh_from_db()
        if job.advance(Status.QUEUED, since=(Status.PAUSED,), message=""):
            note(job, "The job goes on.")
        _tell(job)
    return True


def retry_job(*, job: TrainingJob, created_by: User | None = None, api_key: ApiKey | None = None) -> TrainingJob:
    """A new job with the same settings and files. Raises `Conflict` while it goes on, `DomainError`."""
    if job.status not in RETRYABLE:
        raise Conflict(f"The job is {job.status}: only one that failed or was cancelled is tried again.")
    return duplicate_job(job=job, created_by=created_by, retry_of=job, api_key=api_key)


def duplicate_job(
    *, job: TrainingJob, created_by: User | None = None, retry_of: TrainingJob | None = None, **changes: Any
) -> TrainingJob:
    """A new job with its settings and files, but for `changes`. Raises `DomainError`, also for files that are gone."""
    if job.base is None or job.training_file is None:
        raise DomainError("The job's model or its training file was deleted: begin a new one.")
    same: dict[str, Any] = {
        "project": job.project,
        "base": job.base,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "method": job.method,
        "technique": job.technique,
        "options": job.chosen,
        "suffix": job.suffix,
        "hyperparameters": job.hyperparameters,
        "metadata": job.metadata,
        "priority": job.priority,
    }
    return create_job(**(same | changes), created_by=created_by, retry_of=retry_of)


def note(
    job: TrainingJob, message: str, *, level: str = JobEvent.Level.INFO, data: dict[str, Any] | None = None
) -> None:
    """A sentence for whoever follows the job, in the caller's transaction."""
    JobEvent.objects.create(job=job, level=level, message=message, data=data or {})


def _check_file(file: File, project: Project, param: str) -> None:
    if file.project_id != project.pk:
        raise DomainError(f"No such File object: {file.uid}", param=param)
    if file.purpose != File.Purpose.FINE_TUNE:
        raise DomainError(
            f"{file.uid} has the purpose {file.purpose!r}: upload it with the purpose 'fine-tune', or export it in a "
            "format for training.",
            param=param,
        )


def _tell(job: TrainingJob) -> None:
    """Wake who works on it, and who watches it, after the commit."""
    bell.ring("control")
    bell.ring("gpu")
    progress.hint(TOPIC, job.uid)
