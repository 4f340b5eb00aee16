"""What a control worker does for a dataset, in the background: each job is a row that survives whoever works on it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import models
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.accounts.tenancy import TenantQuerySet
from apps.batches.models import File
from apps.core.ids import new_id
from apps.datasets.models.dataset import Dataset, Example, Version


class Job(models.Model):
    class Status(models.TextChoices):
        QUEUED = "queued", "Waits for a worker"
        RUNNING = "running", "Goes on"
        COMPLETED = "completed", "Done"
        FAILED = "failed", "It could not be done; the message says why"
        CANCELLED = "cancelled", "Somebody cancelled it"

    GOING = (Status.QUEUED, Status.RUNNING)
    ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    message = models.TextField(blank=True)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)  # in the unit of `done`; 0: not known yet
    cancel_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        ordering = ["-id"]

    uid: Any

    def __str__(self) -> str:
        return str(self.uid)

    def end(self, to: Status, message: str = "", **changes: Any) -> bool:
        """Compare-and-set; an end is final. False when it had ended already."""
        values = {"status": to, "message": message, "ended_at": Now(), **changes}
        ended = type(self)._default_manager.filter(pk=self.pk, status__in=self.GOING).update(**values)
        if ended:
            self.refresh_from_db()
        return bool(ended)


def _import_id() -> str:
    return new_id("import_")


def _search_id() -> str:
    return new_id("dups_")


def _export_id() -> str:
    return new_id("export_")


class Import(Job):
    """A file's rows become examples in a new version, or answers in a column of a run. `done` counts bytes."""

    class Kind(models.TextChoices):
        EXAMPLES = "examples", "Examples of a new version"
        ANSWERS = "answers", "Answers produced elsewhere, as a column of a run"

    uid = models.CharField(max_length=50, unique=True, default=_import_id, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="imports")
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.EXAMPLES)
    run = models.ForeignKey("datasets.Run", on_delete=models.CASCADE, null=True, blank=True, related_name="imports")
    label = models.CharField(max_length=200, blank=True)  # of the answers' column
    file_id = models.CharField(max_length=50)  # no foreign key: the file may be deleted, its rows stay
    filename = models.CharField(max_length=255)
    format = models.CharField(max_length=10)  # see apps.datasets.imports.formats
    shape = models.CharField(max_length=20, blank=True)  # see apps.datasets.imports.shapes; empty: detect it
    mapping: models.JSONField[dict[str, str], dict[str, str]] = models.JSONField(default=dict, blank=True)
    replace = models.BooleanField(default=False)  # the new version holds these examples only
    skip_bad = models.BooleanField(default=False)  # rows with errors are left out; else one bad row stops all
    rows = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    errors: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list, blank=True)
    reasons: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list, blank=True)
    errors_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    accept_losses = models.BooleanField(default=False)  # else columns and keys that would be lost stop all
    uses: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list, blank=True)
    version = models.ForeignKey(Version, on_delete=models.SET_NULL, null=True, blank=True, related_name="imports")

    objects = TenantQuerySet["Import"].as_manager()


class DuplicateSearch(Job):
    """Which examples of a version say the same. `done` counts examples."""

    uid = models.CharField(max_length=50, unique=True, default=_search_id, editable=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="duplicate_searches")
    threshold = models.FloatField(default=0.85)  # Jaccard similarity of word shingles; 1: exact ones only
    found = models.PositiveIntegerField(default=0)

    objects = TenantQuerySet["DuplicateSearch"].as_manager()


class Duplicate(models.Model):
    """`example` says what the earlier example `of` says."""

    search = models.ForeignKey(DuplicateSearch, on_delete=models.CASCADE, related_name="duplicates", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="+")
    of = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="+")
    similarity = models.FloatField()  # 1: exact

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["search", "example"], name="duplicate_once")]


class Export(Job):
    """Examples with the answers that were chosen, as a file. `done` counts examples."""

    uid = models.CharField(max_length=50, unique=True, default=_export_id, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="exports")
    run = models.ForeignKey("datasets.Run", on_delete=models.SET_NULL, null=True, blank=True, related_name="exports")
    format = models.CharField(max_length=20)  # see apps.datasets.exports.job
    spec: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)  # filters, split, answers
    repository = models.CharField(max_length=200, blank=True)  # of the hub, where it is pushed to
    rows = models.PositiveIntegerField(default=0)
    manifest: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    manifest_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    left_out_file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    objects = TenantQuerySet["Export"].as_manager()
