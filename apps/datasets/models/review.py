"""What people decide. Each decision is one small row of one reviewer; `Change` says who changed what, and undoes it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.datasets.models.dataset import Dataset, Example
from apps.datasets.models.run import Answer, Run


class Star(models.Model):
    """The gold star: the answer accepted as the best for its example; one per example, or per example and reviewer."""

    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="stars")
    answer = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="stars")
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    shared = models.BooleanField()  # given under the policy of one star per example
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["example"], condition=Q(shared=True), name="star_once"),
            models.UniqueConstraint(
                fields=["example", "reviewer"], condition=Q(shared=False), name="star_once_per_reviewer"
            ),
        ]


class Rating(models.Model):
    answer = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="ratings", db_index=False)
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    value = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["answer", "reviewer"], name="rating_once"),
            models.CheckConstraint(condition=Q(value__range=(1, 5)), name="rating_from_1_to_5"),
        ]


class Thumb(models.Model):
    """One reviewer's yes or no to one answer: data for training without pairs."""

    class Verdict(models.TextChoices):
        UP = "up", "Good: to be learned"
        DOWN = "down", "Bad: to be unlearned"

    answer = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="thumbs", db_index=False)
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    verdict = models.CharField(max_length=4, choices=Verdict)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["answer", "reviewer"], name="thumb_once")]


class Preference(models.Model):
    """One reviewer's verdict on two answers to the same example."""

    class Verdict(models.TextChoices):
        LEFT = "left", "The left one is better"
        RIGHT = "right", "The right one is better"
        TIE = "tie", "Both are as good"
        NEITHER = "neither", "Both are bad"

    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="preferences")
    left = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="+")  # the older row of the two
    right = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="+")
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    verdict = models.CharField(max_length=10, choices=Verdict)
    blind = models.BooleanField(default=False)  # the reviewer did not see whose answers they were
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["left", "right", "reviewer"], name="preference_once"),
            models.CheckConstraint(condition=Q(left__lt=F("right")), name="preference_in_order"),
        ]


class Review(models.Model):
    """Where a reviewer stands with an example, and what they noted."""

    class State(models.TextChoices):
        OPEN = "open", "Looked at, not decided"
        DONE = "done", "Decided"
        REJECTED = "rejected", "Of no use: left out of exports"

    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="reviews")
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    note = models.TextField(blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["example", "reviewer"], name="review_once")]


class Assignment(models.Model):
    """An example of a run that a reviewer should look at."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="assignments", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="+")
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "reviewer", "example"], name="assignment_once")]


class Lock(models.Model):
    """Who works on an example now, so that two do not do the same. It expires by itself."""

    example = models.OneToOneField(Example, on_delete=models.CASCADE, related_name="lock")
    reviewer = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()


class Change(models.Model):
    """The audit history: a row for each change, never changed itself but for `undone_at`."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="changes", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="changes")
    reviewer = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    kind = models.CharField(max_length=12)  # star, rating, thumb, preference, tag, note, state, edit
    target: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()  # what of the example it is about
    before: models.JSONField[Any, Any] = models.JSONField(null=True)
    after: models.JSONField[Any, Any] = models.JSONField(null=True)
    at = models.DateTimeField(db_default=Now())
    undone_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["dataset", "-id"], name="change_of_dataset"),
            models.Index(fields=["reviewer", "-id"], name="change_of_reviewer"),
        ]
