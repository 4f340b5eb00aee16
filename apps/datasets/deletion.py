"""Deletes a dataset with all that hangs on it, by statements: Django would read a million rows first."""

from django.db import transaction
from django.db.models import Model, Q

from apps.core.errors import Conflict
from apps.datasets.models import (
    Answer,
    Assignment,
    Change,
    Column,
    Dataset,
    Duplicate,
    DuplicateSearch,
    Example,
    Export,
    Import,
    Item,
    Job,
    Judge,
    Judgement,
    Lock,
    Member,
    Preference,
    Rating,
    Review,
    Run,
    RunBatch,
    Split,
    Star,
    Version,
)

PARTS: tuple[tuple[type[Model], str], ...] = (
    (Change, "dataset"),
    (Lock, "example__dataset"),
    (Assignment, "run__dataset"),
    (Review, "example__dataset"),
    (Preference, "example__dataset"),
    (Rating, "answer__example__dataset"),
    (Star, "example__dataset"),
    (Judgement, "judge__run__dataset"),
    (Answer, "column__run__dataset"),
    (Item, "run__dataset"),
    (Judge, "run__dataset"),
    (Column, "run__dataset"),
    (Duplicate, "search__version__dataset"),
    (DuplicateSearch, "version__dataset"),
    (Export, "dataset"),
    (Import, "dataset"),
    (Run, "dataset"),
    (Member, "split__version__dataset"),
    (Split, "version__dataset"),
    (Version, "dataset"),
    (Example, "dataset"),
)
"""What is in a dataset, and the way to it; what points to a row comes before the row."""

GOING = Q(status__in=Job.GOING)


def delete(dataset: Dataset) -> None:
    """Files that came of exports stay. Raises `Conflict` while something goes on in it."""
    with transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        _check_idle(dataset)
        batches = RunBatch.objects.filter(Q(column__run__dataset=dataset) | Q(judge__run__dataset=dataset))
        batches.filter(settled=True)._raw_delete("default")
        for model, way in PARTS:
            model._default_manager.filter(**{way: dataset})._raw_delete("default")
        Dataset.objects.filter(pk=dataset.pk)._raw_delete("default")


def _check_idle(dataset: Dataset) -> None:
    going = {
        "an import": Import.objects.filter(GOING, dataset=dataset),
        "a search for duplicates": DuplicateSearch.objects.filter(GOING, version__dataset=dataset),
        "an export": Export.objects.filter(GOING, dataset=dataset),
        "a run": Column.objects.filter(Q(batches__settled=False) | Q(due=True), run__dataset=dataset),
        "a judge": Judge.objects.filter(Q(batches__settled=False) | Q(due=True), run__dataset=dataset),
    }
    for what, rows in going.items():
        if rows.exists():
            raise Conflict(f"{what.capitalize()} of this dataset goes on: wait until it has ended, or cancel it.")
