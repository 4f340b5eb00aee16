from __future__ import annotations

from typing import Any, Self

from django.db import models
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce, Now

from apps.accounts.models import ApiKey, Project
from apps.accounts.tenancy import TenantQuerySet
from apps.core.ids import new_id
from apps.models.models import Model


def _file_id() -> str:
    return new_id("file-")


def _batch_id() -> str:
    return new_id("batch_")


class FileQuerySet(TenantQuerySet["File"]):
    def unexpired(self) -> Self:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))


class File(models.Model):
    """Bytes in the storage, under a name of ours; written once, never changed."""

    class Purpose(models.TextChoices):
        """OpenAI's words; the last two are made by the server."""

        BATCH = "batch"
        FINE_TUNE = "fine-tune"
        USER_DATA = "user_data"
        EVALS = "evals"
        BATCH_OUTPUT = "batch_output"
        FINE_TUNE_RESULTS = "fine-tune-results"

    uid = models.CharField(max_length=50, unique=True, default=_file_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    filename = models.CharField(max_length=255)
    purpose = models.CharField(max_length=20, choices=Purpose)
    bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    content = models.FileField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = FileQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["expires_at"], condition=Q(expires_at__isnull=False), name="file_expiring")]

    def __str__(self) -> str:
        return self.uid


def _upload_id() -> str:
    return new_id("upload_")


def _part_id() -> str:
    return new_id("part_")


class Upload(models.Model):
    """A large file that comes in parts, any of which may be sent again: OpenAI's Upload. Once complete it is a `File`.

    One that is pending when its time is over is as good as expired; the purge writes that down, and deletes its parts.
    """

    class Status(models.TextChoices):
        PENDING = "pending", "Parts can be added"
        COMPLETED = "completed", "Its parts became a file"
        CANCELLED = "cancelled", "Given up; its parts are gone"
        EXPIRED = "expired", "It was not completed in time; its parts are gone"

    uid = models.CharField(max_length=50, unique=True, default=_upload_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    filename = models.CharField(max_length=255)
    purpose = models.CharField(max_length=20, choices=File.Purpose)
    bytes = models.BigIntegerField()  # that its parts must have together
    expires_after = models.PositiveIntegerField(null=True, blank=True)  # seconds, of the file from its creation
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    part_ids = models.JSONField(null=True, blank=True)  # of which the file was made, in order
    file = models.OneToOneField(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="upload")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    objects = TenantQuerySet["Upload"].as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["expires_at"], condition=Q(status="pending"), name="upload_pending")]

    def __str__(self) -> str:
        return self.uid

    def end(self, status: str, **values: Any) -> bool:
        """Change the status of a pending one. False: it had ended, nothing changed."""
        changed = Upload.objects.filter(pk=self.pk, status=Upload.Status.PENDING).update(status=status, **values)
        self.refresh_from_db()
        return bool(changed)


class UploadPart(models.Model):
    """Bytes in the storage that wait for the other parts."""

    uid = models.CharField(max_length=50, unique=True, default=_part_id, editable=False)
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    bytes = models.BigIntegerField()
    content = models.FileField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.uid


class BatchQuerySet(TenantQuerySet["Batch"]):
    def with_progress(self) -> Self:
        """Adds the shards' sums, so that a page of batches costs one query. Newest first where no order was given.

        Django leaves `Meta.ordering` out of a query with GROUP BY: its order has to be given.
        """
        ordered = self if self.query.order_by else self.order_by("-id")
        return ordered.annotate(
            completed_lines=Coalesce(Sum("shards__completed"), 0),
            failed_lines=Coalesce(Sum("shards__failed"), 0),
            input_tokens=Coalesce(Sum("shards__input_tokens"), 0),
            cached_tokens=Coalesce(Sum("shards__cached_tokens"), 0),
            output_tokens=Coalesce(Sum("shards__output_tokens"), 0),
            reasoning_tokens=Coalesce(Sum("shards__reasoning_tokens"), 0),
        )

    def runnable(self) -> Self:
        """Batches whose lines may be sent to an engine now."""
        return self.filter(status=Batch.Status.IN_PROGRESS, paused_at=None, expires_at__gt=Now())


class Batch(models.Model):
    """OpenAI's batch. Its lines are `Request` rows, cut into `Shard`s; each line ends as one `Result`."""

    class Status(models.TextChoices):
        VALIDATING = "validating", "The input file is being read"
        FAILED = "failed", "The input file has errors, or the server could not do it; its errors say why"
        IN_PROGRESS = "in_progress", "Its lines are being answered, or wait for a GPU"
        FINALIZING = "finalizing", "All lines have ended; the files are being written"
        COMPLETED = "completed", "Every line has a result"
        EXPIRED = "expired", "The window passed; unfinished lines are in the error file"
        CANCELLING = "cancelling", "Being stopped; what is done is being written"
        CANCELLED = "cancelled", "Stopped; what was done is in the output file"

    OPEN = (Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING)
    PREDECESSORS: dict[str, tuple[str, ...]] = {
        Status.FAILED: (Status.VALIDATING, Status.FINALIZING, Status.CANCELLING),
        Status.IN_PROGRESS: (Status.VALIDATING,),
        Status.FINALIZING: (Status.VALIDATING, Status.IN_PROGRESS),
        Status.COMPLETED: (Status.FINALIZING,),
        Status.EXPIRED: (Status.FINALIZING,),
        Status.CANCELLING: (Status.VALIDATING, Status.IN_PROGRESS),
        Status.CANCELLED: (Status.CANCELLING,),
    }

    uid = models.CharField(max_length=50, unique=True, default=_batch_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    created_by = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True)
    endpoint = models.CharField(max_length=50)
    input_file_id = models.CharField(max_length=50)  # no foreign key: the file may be deleted, its lines are rows
    completion_window = models.CharField(max_length=10, default="24h")
    output_expires_after = models.PositiveIntegerField(null=True, blank=True)  # seconds from the output's creation
    metadata = models.JSONField(null=True, blank=True)
    priority = models.SmallIntegerField(default=0, help_text="Higher runs first.")
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries")

    status = models.CharField(max_length=12, choices=Status, default=Status.VALIDATING)
    outcome = models.CharField(max_length=12, choices=Status, blank=True)  # what finalizing will make of it
    model = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, blank=True)
    model_name = models.CharField(max_length=200, blank=True)  # outlives the model
    total = models.PositiveIntegerField(default=0)
    errors = models.JSONField(null=True, blank=True)  # [{code, line, message, param}], at most 100
    warnings = models.JSONField(null=True, blank=True)  # the same: names that the engine passes over
    output_file = models.OneToOneField(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="output_of")
    error_file = models.OneToOneField(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="errors_of")

    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    paused_at = models.DateTimeField(null=True, blank=True)
    in_progress_at = models.DateTimeField(null=True, blank=True)
    finalizing_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    expired_at = models.DateTimeField(null=True, blank=True)
    cancelling_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)

    objects = BatchQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "batches"
        indexes = [
            models.Index(
                fields=["status"],
                condition=Q(status__in=["validating", "in_progress", "finalizing", "cancelling"]),
                name="batch_open",
            ),
            models.Index(fields=["project", "-id"], name="batch_of_project"),
        ]

    def __str__(self) -> str:
        return self.uid

    def advance(self, to: str, **values: Any) -> bool:
        """Change the status, with its timestamp, if that is legal now. False: somebody was first, nothing changed."""
        changed = Batch.objects.filter(pk=self.pk, status__in=self.PREDECESSORS[to]).update(
            status=to, **{f"{to}_at": Now()}, **values
        )
        if changed:
            self.refresh_from_db()
        return bool(changed)


class Request(models.Model):
    """A validated line of the input, written once by COPY. `line` counts from 1 as in the input file."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="requests", db_index=False)
    line = models.PositiveIntegerField()
    custom_id = models.TextField()
    body = models.TextField()  # JSON as it came; text with lz4 loads and exports twice as fast as jsonb

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "line"], name="request_line_once")]

    def __str__(self) -> str:
        return self.custom_id


class Shard(models.Model):
    """A run of lines that one worker leases (`shard:<id>`). Its counts change in the transaction of its results."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="shards")
    first_line = models.PositiveIntegerField()
    last_line = models.PositiveIntegerField()
    lines = models.PositiveIntegerField()
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["batch", "first_line"], name="shard_once"),
            models.CheckConstraint(
                condition=Q(lines__gte=F("completed") + F("failed")), name="shard_counts_within_lines"
            ),
        ]
        indexes = [
            models.Index(fields=["batch"], condition=Q(lines__gt=F("completed") + F("failed")), name="shard_unfinished")
        ]


class Result(models.Model):
    """How a line ended: inserted once, never changed. One of `status_code` (the engine answered) and `error_code`."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="results", db_index=False)
    line = models.PositiveIntegerField()
    custom_id = models.TextField()  # again, so that output files need no join
    failed = models.BooleanField()
    status_code = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(null=True)  # noqa: DJ001 - null: there was no answer at all
    error_code = models.CharField(max_length=50, default="")
    error_message = models.TextField(default="")
    request_id = models.CharField(max_length=50, default="")
    attempts = models.PositiveSmallIntegerField(default=0)  # 0: it never ran
    latency_ms = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "line"], name="result_line_once")]
