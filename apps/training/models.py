from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Exists, OuterRef, Value
from django.db.models.functions import Cast, Concat, Now

from apps.accounts.models import ApiKey, Project
from apps.accounts.tenancy import TenantQuerySet
from apps.batches.models import File
from apps.core.ids import new_id
from apps.core.models import Lease
from apps.datasets.models import Export, Run
from apps.models.models import Device, Model


def _job_id() -> str:
    return new_id("ftjob-")


def _event_id() -> str:
    return new_id("ftevent-")


def _checkpoint_id() -> str:
    return new_id("ftckpt_")


def _deployment_id() -> str:
    return new_id("deploy_")


class TrainingJobQuerySet(TenantQuerySet["TrainingJob"]):
    def runnable(self) -> Self:
        """Jobs that want a device now."""
        wanting = (TrainingJob.Status.QUEUED, TrainingJob.Status.RUNNING)
        return self.filter(status__in=wanting, cancel_requested_at=None, pause_requested_at=None)

    def unheld(self) -> Self:
        """Those that no live worker trains."""
        key = Concat(Value("training:"), Cast("pk", models.CharField()))
        held = Lease.objects.filter(key=OuterRef("lease"), expires_at__gt=Now())
        return self.alias(lease=key).exclude(Exists(held))


class TrainingJob(models.Model):
    """OpenAI's fine-tuning job. It is a row from its first to its last step; a device is lent to it in turns."""

    class Method(models.TextChoices):
        SFT = "sft", "Supervised: answers to learn"
        DPO = "dpo", "Preferences: better and worse answers"
        KTO = "kto", "Thumbs: good answers and bad ones"

    class Technique(models.TextChoices):
        LORA = "lora", "LoRA: a small adapter on the model"
        QLORA = "qlora", "QLoRA: an adapter on the model in 4 bits"
        FULL = "full", "All weights"

    class Status(models.TextChoices):
        VALIDATING = "validating_files", "Its files are being read"
        QUEUED = "queued", "Waits for a device"
        RUNNING = "running", "Learns"
        PAUSED = "paused", "Waits, and goes on from its last checkpoint"
        SUCCEEDED = "succeeded", "The model is trained"
        FAILED = "failed", "It could not be done; the message says why"
        CANCELLED = "cancelled", "Somebody cancelled it"

    HAS_REWARDS = (Method.DPO, Method.KTO)
    OPEN = (Status.VALIDATING, Status.QUEUED, Status.RUNNING, Status.PAUSED)
    ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

    uid = models.CharField(max_length=50, unique=True, default=_job_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    base = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, related_name="+")
    base_name = models.CharField(max_length=200)  # outlives the model
    base_revision = models.CharField(max_length=40, blank=True)
    training_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, related_name="+")
    validation_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    training_file_uid = models.CharField(max_length=50)  # outlive the files
    validation_file_uid = models.CharField(max_length=50, blank=True)
    export = models.ForeignKey(
        Export, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        help_text="The training file's, where it is one: what the model's lineage goes back on.",
    )  # fmt: skip
    suffix = models.CharField(max_length=64, blank=True)
    method = models.CharField(max_length=4, choices=Method, default=Method.SFT)
    technique = models.CharField(max_length=5, choices=Technique, default=Technique.LORA)
    options: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    """Whole: what was chosen, over what fits the model, and once the files were read, their rows."""
    chosen: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    """Those of the options that somebody set; see apps.training.options."""
    plan: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    """Why the options are as they are, once the files were read; see apps.training.presets."""
    hyperparameters: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    """As OpenAI's request gave them, "auto" included."""
    metadata = models.JSONField(null=True, blank=True)
    priority = models.SmallIntegerField(default=0, help_text="Higher runs first.")
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries")

    status = models.CharField(max_length=16, choices=Status, default=Status.VALIDATING)
    message = models.TextField(blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_param = models.CharField(max_length=40, blank=True)
    errors = models.JSONField(null=True, blank=True)  # of the files: [{file, line, code, message}], at most 100
    bad_rows = models.PositiveIntegerField(default=0)  # in all
    errors_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    left_out = models.PositiveIntegerField(default=0)  # rows of which nothing is learned
    left_out_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    estimate: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    """Bytes of the device, by part; see apps.training.memory."""
    backend = models.CharField(max_length=10, blank=True)
    backend_version = models.CharField(max_length=40, blank=True)
    device = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, related_name="+")
    examples = models.PositiveIntegerField(default=0)
    valid_examples = models.PositiveIntegerField(default=0)
    trained_tokens = models.PositiveBigIntegerField(default=0)  # so far, every time one was learned
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)  # in all; 0: not known yet
    seconds = models.FloatField(default=0)  # on a device, in all turns
    tries = models.PositiveSmallIntegerField(default=0)  # trainers in a row that died before they saved anything
    log = models.TextField(blank=True)  # the trainer's last lines
    result_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    cancel_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    pause_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.uid

    @property
    def folder(self) -> Path:
        """Its prepared files and its checkpoints."""
        return settings.TRAINING_DIR / self.uid

    @property
    def model_name(self) -> str:
        """What its result is called: OpenAI's `ft:BASE:ORGANISATION:SUFFIX:ID`."""
        base = self.base_name.removeprefix("ft:").split(":")[0]
        return f"ft:{base}:{self.project.uid.removeprefix('proj_')[:8]}:{self.suffix}:{self.uid[-8:]}"

    @property
    def result(self) -> Checkpoint | None:
        """The checkpoint that training ended with."""
        return self.checkpoints.filter(best=True).first() if self.status == self.Status.SUCCEEDED else None

    def advance(self, to: Status, *, since: tuple[str, ...] = (), **changes: Any) -> bool:
        """Compare-and-set from the status that this object has, or one of `since`. False: another was faster."""
        if to in self.ENDED:
            changes["ended_at"] = Now()
        rows = TrainingJob.objects.filter(pk=self.pk, status__in=since or (self.status,))
        won = rows.exclude(status__in=self.ENDED).update(status=to, **changes)
        if won:
            self.refresh_from_db()
        return bool(won)


class Metric(models.Model):
    """What was measured at one step. A step that was done again after a crash is measured anew."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metrics", db_index=False)
    step = models.PositiveIntegerField()
    epoch = models.FloatField(default=0)
    loss = models.FloatField(null=True)
    token_accuracy = models.FloatField(null=True)
    valid_loss = models.FloatField(null=True)
    valid_token_accuracy = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)
    grad_norm = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    memory_bytes = models.BigIntegerField(null=True)
    reward_chosen = models.FloatField(null=True)  # see apps.training.spec.REWARDS
    reward_rejected = models.FloatField(null=True)
    reward_margin = models.FloatField(null=True)
    reward_accuracy = models.FloatField(null=True)
    kl = models.FloatField(null=True)
    valid_reward_chosen = models.FloatField(null=True)
    valid_reward_rejected = models.FloatField(null=True)
    valid_reward_margin = models.FloatField(null=True)
    valid_reward_accuracy = models.FloatField(null=True)
    valid_kl = models.FloatField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="metric_once")]


class JobEvent(models.Model):
    """OpenAI's event of a fine-tuning job: a sentence about what happened to it."""

    class Level(models.TextChoices):
        INFO = "info", "Information"
        WARN = "warn", "Warning"
        ERROR = "error", "Error"

    uid = models.CharField(max_length=50, unique=True, default=_event_id, editable=False)
    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="events")
    level = models.CharField(max_length=5, choices=Level, default=Level.INFO)
    type = models.CharField(max_length=8, default="message")  # or "metrics"
    message = models.TextField()
    data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]


class Checkpoint(models.Model):
    """What was learned up to a step, sealed by a manifest on the disk."""

    uid = models.CharField(max_length=50, unique=True, default=_checkpoint_id, editable=False)
    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="checkpoints", db_index=False)
    step = models.PositiveIntegerField()
    path = models.CharField(max_length=500)
    digest = models.CharField(max_length=64)  # SHA-256 of its manifest
    bytes = models.BigIntegerField()
    best = models.BooleanField(default=False)  # the job's result, once it has succeeded
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="checkpoint_once")]

    @property
    def folder(self) -> Path:
        return Path(self.path)

    @property
    def model_name(self) -> str:
        return f"{self.job.model_name}:ckpt-step-{self.step}"


class Deployment(models.Model):
    """A checkpoint on its way to being served, and what it had to show for that."""

    class Kind(models.TextChoices):
        ADAPTER = "adapter", "An adapter on its base model's engine"
        MERGED = "merged", "A model of its own, with an engine of its own"

    class Status(models.TextChoices):
        QUEUED = "queued", "Waits for a worker"
        MERGING = "merging", "The adapter and the base become one model"
        PROVING = "proving", "Its answers are compared with the base model's"
        UNPROVEN = "unproven", "It changed, but not as taught: nothing is served until that is accepted"
        READY = "ready", "Served"
        REFUSED = "refused", "It did not pass its checks; nothing is served"
        FAILED = "failed", "It could not be done; the message says why"
        UNDEPLOYED = "undeployed", "Taken back"

    GOING = (Status.QUEUED, Status.MERGING, Status.PROVING)
    OPEN = (*GOING, Status.UNPROVEN)
    """Its files and its model are kept, though nothing is served."""

    uid = models.CharField(max_length=50, unique=True, default=_deployment_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="deployments")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.ADAPTER)
    name = models.CharField(max_length=200)  # what requests call it
    model = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    message = models.TextField(blank=True)
    parity: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    """See apps.training.deployments.parity: the prompts and what each said."""
    judge = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    judge_name = models.CharField(max_length=200, blank=True)  # outlives the model; empty: no judge
    rubric = models.TextField(blank=True)  # the judge's
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Deployment"].as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def advance(self, to: Status, **changes: Any) -> bool:
        """Compare-and-set from the status that this object has. False when somebody else was faster."""
        if to not in self.GOING:
            changes["ended_at"] = Now()
        won = Deployment.objects.filter(pk=self.pk, status=self.status).update(status=to, **changes)
        if won:
            self.refresh_from_db()
        return bool(won)


class Evaluation(models.Model):
    """A run of the workbench in which the base and the tuned model answer the same examples."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="evaluations")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["deployment", "run"], name="evaluation_once")]
