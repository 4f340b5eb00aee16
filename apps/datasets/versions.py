"""Versions of a dataset: numbered from 1, never changed. One change of a dataset is made at a time.

An import writes its examples under the number of the version to come, which nobody sees before that version is made.
So while it goes on, no other version may be made.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max, QuerySet

from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Dataset, Example, Import, Version

IMPORTING = "An import into this dataset goes on: wait until it has ended, or cancel it."


def latest(dataset: Dataset) -> Version | None:
    return Version.objects.filter(dataset=dataset).order_by("-number").first()


def next_numbers(dataset: Dataset) -> tuple[int, int]:
    """Of the version to come, and of its first new example. Waits until nobody makes a version."""
    with transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        version = Version.objects.filter(dataset=dataset).aggregate(last=Max("number"))["last"] or 0
    example = Example.objects.filter(dataset=dataset).aggregate(last=Max("number"))["last"] or 0
    return version + 1, example + 1


def discard_coming(dataset_id: int) -> None:
    """Delete the examples of a version that was never made. Only for who holds the dataset's import."""
    made = Version.objects.filter(dataset=dataset_id).aggregate(last=Max("number"))["last"] or 0
    Example.objects.filter(dataset=dataset_id, added_in__gt=made)._raw_delete("default")


def make(*, dataset: Dataset, number: int, added: int, replace: bool, note: str, created_by: User | None) -> Version:
    """The version whose examples were written. Call it within a transaction."""
    before = latest(dataset)
    kept = before.examples if before and not replace else 0
    if before and replace:
        Example.objects.of_version(before).update(removed_in=number)
    return Version.objects.create(
        dataset=dataset, number=number, examples=kept + added, note=note[:300], created_by=created_by
    )


def remove(
    *, dataset: Dataset, numbers: Iterable[int] | QuerySet[Any, Any], note: str, created_by: User | None
) -> Version:
    """A new version without these examples; earlier versions keep them. Raises `DomainError`, `Conflict`."""
    with transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        if Import.objects.filter(dataset=dataset, kind=Import.Kind.EXAMPLES, status__in=Import.GOING).exists():
            raise Conflict(IMPORTING)
        before = latest(dataset)
        if before is None:
            raise Conflict("The dataset has no examples yet.")
        gone = Example.objects.of_version(before).filter(number__in=numbers).update(removed_in=before.number + 1)
        if not gone:
            raise DomainError("None of these examples is in the latest version.", param="examples")
        return Version.objects.create(
            dataset=dataset, number=before.number + 1, examples=before.examples - gone,
            note=note[:300], created_by=created_by,
        )  # fmt: skip
