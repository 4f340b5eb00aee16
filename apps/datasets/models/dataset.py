from __future__ import annotations

from typing import Self

from django.contrib.auth.models import User
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models
from django.db.models import Q
from django.db.models.functions import Left, Now

from apps.accounts.models import Project
from apps.accounts.tenancy import TenantQuerySet
from apps.core.ids import new_id

SEARCH_CHARACTERS = 100_000  # of a text; PostgreSQL refuses to index more than a megabyte of words
SEARCH_CONFIG = "simple"  # no stemming: texts come in many languages, and in code


def searchable(field: str) -> SearchVector:
    """What the full-text index of a text column holds; a query must use this very expression."""
    return SearchVector(Left(field, SEARCH_CHARACTERS), config=SEARCH_CONFIG)


def _dataset_id() -> str:
    return new_id("dset_")


def _split_id() -> str:
    return new_id("split_")


class Dataset(models.Model):
    """Examples under a name. They change only by making a new version."""

    class StarPolicy(models.TextChoices):
        SHARED = "shared", "One gold star per example, whoever gives it"
        REVIEWER = "reviewer", "One gold star per example and reviewer"

    uid = models.CharField(max_length=50, unique=True, default=_dataset_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    star_policy = models.CharField(max_length=10, choices=StarPolicy, default=StarPolicy.SHARED)
    overlap = models.PositiveSmallIntegerField(default=1, help_text="Reviewers that each example should have.")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantQuerySet["Dataset"].as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="dataset_name_once")]

    def __str__(self) -> str:
        return self.name


class Version(models.Model):
    """A dataset at one time, for ever: the examples that were added by then and not removed by then."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()  # 1, 2, 3 …
    note = models.CharField(max_length=300, blank=True)
    examples = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["dataset", "number"], name="version_once")]

    def __str__(self) -> str:
        return f"{self.dataset} v{self.number}"


class ExampleQuerySet(models.QuerySet["Example"]):
    def of_version(self, version: Version) -> Self:
        present = Q(removed_in=None) | Q(removed_in__gt=version.number)
        return self.filter(present, dataset=version.dataset_id, added_in__lte=version.number)


class Example(models.Model):
    """A prompt, perhaps with the expected answer. Its `number` is its custom_id in batches, and never used again."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="examples", db_index=False)
    number = models.PositiveIntegerField()  # counts from 1 within the dataset
    added_in = models.PositiveIntegerField()  # the number of a version
    removed_in = models.PositiveIntegerField(null=True, blank=True)
    line = models.PositiveIntegerField(null=True, blank=True)  # where its row begins in the file that was imported
    key = models.TextField(blank=True)  # the row's own id, where it had one
    messages = models.TextField()  # JSON: OpenAI's chat messages, up to the question
    prompt = models.TextField()  # the last user message: what people read and search
    reference = models.TextField(blank=True)  # the expected answer, as people read it
    rejected = models.TextField(blank=True)  # the answer that a preference row came with as the worse one, likewise
    reference_messages = models.TextField(blank=True, db_default="")  # JSON, where the text does not say all of it
    rejected_messages = models.TextField(blank=True, db_default="")
    request = models.TextField(blank=True, db_default="")  # JSON: what a request has beside messages, such as tools
    data = models.TextField(blank=True)  # JSON: the row as it came, what templates and exports may use
    fingerprint = models.UUIDField()  # of the messages without case and spacing: equal for exact duplicates
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)

    objects = ExampleQuerySet.as_manager()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["dataset", "number"], name="example_once")]
        indexes = [
            models.Index(fields=["dataset", "fingerprint"], name="example_fingerprint"),
            GinIndex(fields=["tags"], name="example_tags"),
            GinIndex(searchable("prompt"), name="example_search"),
        ]

    def __str__(self) -> str:
        return f"#{self.number}"


class Split(models.Model):
    """A frozen division of a version: who is in which part is stored, so that training can be repeated."""

    uid = models.CharField(max_length=50, unique=True, default=_split_id, editable=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="splits")
    name = models.CharField(max_length=100)
    seed = models.PositiveBigIntegerField(default=0)
    shares: models.JSONField[dict[str, int], dict[str, int]] = models.JSONField()  # part -> per cent
    counts: models.JSONField[dict[str, int], dict[str, int]] = models.JSONField(default=dict)  # part -> examples
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["version", "name"], name="split_name_once")]

    def __str__(self) -> str:
        return f"{self.version} {self.name}"


class Member(models.Model):
    class Part(models.TextChoices):
        TRAIN = "train", "Train"
        VALIDATION = "validation", "Validation"
        TEST = "test", "Test"

    split = models.ForeignKey(Split, on_delete=models.CASCADE, related_name="members", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="memberships")
    part = models.CharField(max_length=10, choices=Part)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["split", "example"], name="member_once")]
        indexes = [models.Index(fields=["split", "part"], name="member_part")]
