from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import ApiKey, Project
from apps.accounts.tenancy import TenantQuerySet
from apps.batches.answers import Incomplete, Said, incomplete
from apps.batches.models import Batch
from apps.core.ids import new_id
from apps.datasets.models.dataset import Dataset, Example, Split, Version, searchable
from apps.models.models import Model


def _run_id() -> str:
    return new_id("run_")


def _judge_id() -> str:
    return new_id("judge_")


class Run(models.Model):
    """A matrix: the examples of a version (an `Item` each) against models (a `Column` each)."""

    uid = models.CharField(max_length=50, unique=True, default=_run_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="runs")
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="runs")
    split = models.ForeignKey(Split, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs")
    part = models.CharField(max_length=10, blank=True)  # of the split
    name = models.CharField(max_length=100)
    parameters: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    samples = models.PositiveSmallIntegerField(default=1)  # answers per prompt: `n` of the requests
    items_total = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantQuerySet["Run"].as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Column(models.Model):
    """One model's answers in a run. A model that is deleted later leaves its name and revision here."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="columns")
    position = models.PositiveSmallIntegerField()  # from 0; 0 is the baseline unless the page chooses another
    label = models.CharField(max_length=200)
    model = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    model_name = models.CharField(max_length=200, blank=True)  # empty: the answers were imported
    revision = models.CharField(max_length=40, blank=True)
    answered = models.PositiveIntegerField(default=0)  # items with an answer
    failed = models.PositiveIntegerField(default=0)  # items whose request failed
    incomplete = models.PositiveIntegerField(default=0, db_default=0)  # answers that are blank, cut off, refused …
    blank = models.PositiveIntegerField(default=0, db_default=0)  # of these, those without text and calls
    due = models.BooleanField(default=False)  # what has no answer, or a failed one, waits to be sent as batches
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["run", "position"], name="column_once")]
        indexes = [models.Index(fields=["id"], condition=Q(due=True), name="column_due")]

    def __str__(self) -> str:
        return self.label


class Judge(models.Model):
    """A model that scores answers by a rubric, as a batch."""

    uid = models.CharField(max_length=50, unique=True, default=_judge_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="judges")
    model = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    model_name = models.CharField(max_length=200)
    rubric = models.TextField()
    parameters: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    only_unrated = models.BooleanField(default=False)  # the answers that no reviewer has rated
    due = models.BooleanField(default=False)  # its answers wait to be sent as batches
    total = models.PositiveIntegerField(default=0)  # answers to score
    scored = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)  # no score could be read, or the request failed
    message = models.TextField(blank=True)  # why answers were not sent to it, or nothing came back
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantQuerySet["Judge"].as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.model_name} on {self.run}"


class RunBatch(models.Model):
    """A batch whose results become answers of a column, or scores of a judge. Its custom_ids are numbers of examples,
    or ids of answers."""

    batch = models.OneToOneField(Batch, on_delete=models.CASCADE, related_name="run_batch")
    column = models.ForeignKey(Column, on_delete=models.CASCADE, null=True, blank=True, related_name="batches")
    judge = models.ForeignKey(Judge, on_delete=models.CASCADE, null=True, blank=True, related_name="batches")
    first = models.PositiveBigIntegerField(default=0)  # its custom_ids lie from here
    last = models.PositiveBigIntegerField(default=0)  # to here
    seen = models.PositiveBigIntegerField(default=0)  # the latest result row that was taken over
    taken = models.PositiveIntegerField(default=0)  # results that were taken over
    settled = models.BooleanField(default=False)  # the batch has ended and every result was taken over

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(column=None, judge__isnull=False) | Q(column__isnull=False, judge=None),
                name="run_batch_for_one",
            )
        ]
        indexes = [models.Index(fields=["id"], condition=Q(settled=False), name="run_batch_unsettled")]


class Item(models.Model):
    """An example in a run, with what its filters ask for, kept up to date in the transaction that changes it."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="items", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="items")
    number = models.PositiveIntegerField()  # the example's
    answered = models.PositiveSmallIntegerField(default=0)  # columns with an answer
    failed = models.PositiveSmallIntegerField(default=0)  # columns whose request failed
    incomplete = models.PositiveSmallIntegerField(default=0, db_default=0)  # columns with an answer that is not whole
    differs = models.BooleanField(default=False)  # two columns answered with different texts
    shortest = models.PositiveIntegerField(null=True)  # characters of the shortest and the longest answer
    longest = models.PositiveIntegerField(null=True)
    starred = models.BooleanField(default=False)
    rejected = models.BooleanField(default=False)
    edited = models.BooleanField(default=False)
    rating = models.PositiveSmallIntegerField(null=True)  # the best that any of its answers got, 1 to 5
    thumbs_up = models.PositiveSmallIntegerField(default=0, db_default=0)  # that any of its answers got
    thumbs_down = models.PositiveSmallIntegerField(default=0, db_default=0)
    judge_score = models.FloatField(null=True)  # the best that any of its answers got from the latest judge
    reviews = models.PositiveSmallIntegerField(default=0)  # reviewers who are done with it

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="item_once")]


class Answer(models.Model):
    """What a model answered; or what a reviewer made of an answer, which is a row of its own."""

    column = models.ForeignKey(Column, on_delete=models.CASCADE, related_name="answers", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="answers")
    sample = models.PositiveSmallIntegerField(default=0)
    text = models.TextField(blank=True)  # the content, and nothing else
    error = models.TextField(blank=True)  # why there is no answer
    finish_reason = models.CharField(max_length=30, blank=True)
    reasoning = models.TextField(blank=True, db_default="")  # what it thought before
    tool_calls = models.TextField(blank=True, db_default="")  # JSON; see apps.batches.answers.Said
    refusal = models.TextField(blank=True, db_default="")
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    latency_ms = models.PositiveIntegerField(default=0)
    edit_of = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="edits")
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["column", "example", "sample"], condition=Q(edit_of=None), name="answer_once"
            ),
            models.UniqueConstraint(
                fields=["edit_of", "author"], condition=Q(edit_of__isnull=False), name="edit_once_per_author"
            ),
        ]
        indexes = [GinIndex(searchable("text"), name="answer_search")]

    @property
    def said(self) -> Said:
        return Said(self.text, self.reasoning, self.tool_calls, self.refusal, self.finish_reason)

    @property
    def incomplete(self) -> Incomplete | None:
        """Why it should not be learned from as it is."""
        return incomplete(self.said, self.output_tokens)


class Judgement(models.Model):
    judge = models.ForeignKey(Judge, on_delete=models.CASCADE, related_name="judgements", db_index=False)
    answer = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="judgements")
    score = models.PositiveSmallIntegerField(null=True)  # 1 to 5; null: none could be read
    reason = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["judge", "answer"], name="judgement_once")]
