"""Exports that go on by themselves, as in a control worker, and what they bring."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from django.core.files.storage import default_storage

from apps.accounts.models import Project
from apps.core import leases
from apps.datasets import items
from apps.datasets.exports.job import KIND
from apps.datasets.exports.services import start_export
from apps.datasets.models import Answer, Example, Export, Member, Run, Split, Star
from tests.datasets.cast import make_reviewer, make_run, make_version

WAIT_SECONDS = 60.0

ANSWERS = {"small": ["Paris", "Lima", "Accra"], "large": ["Paris.", "Lima", "It is Accra."]}


@contextmanager
def exporter() -> Iterator[leases.Keeper]:
    """A worker's keeper; what still goes on at the end is stopped."""
    keeper = leases.Keeper()
    try:
        yield keeper
    finally:
        keeper._held.clear()  # every thread sees that it has no lease, and ends
        assert KIND.crew.wait(30)
        keeper.close()


def drive(export: Export, *, seconds: float = WAIT_SECONDS) -> Export:
    """Until it has ended."""
    with exporter() as keeper:
        deadline = time.monotonic() + seconds
        while export.status not in Export.ENDED:
            assert time.monotonic() < deadline, f"{export.status}: {export.message}"
            KIND.duty(keeper)
            time.sleep(0.02)
            export.refresh_from_db()
    return export


def exported(run: Run, chosen: str, **choices: Any) -> Export:
    """A completed export."""
    export = drive(start_export(dataset=run.dataset, format=chosen, run=run, **choices))
    assert export.status == Export.Status.COMPLETED, export.message
    return export


def content(export: Export) -> bytes:
    assert export.file
    with export.file.content.open("rb") as file:
        return bytes(file.read())


def lines(export: Export) -> list[Any]:
    return [msgspec.json.decode(line) for line in content(export).splitlines()]


def starred_run(project: Project, star: str = "large", **choices: Any) -> Run:
    """A run of the capitals whose answers of one column have mia's gold star."""
    run = make_run(make_version(project, **choices), ANSWERS)
    mia = make_reviewer(project)
    for answer in Answer.objects.filter(column__run=run, column__label=star):
        Star.objects.create(example_id=answer.example_id, answer=answer, reviewer=mia, shared=True)
    items.refresh_reviews(list(Example.objects.filter(items__run=run).values_list("pk", flat=True)))
    return run


def make_split(run: Run, parts: list[str], *, name: str = "thirds") -> Split:
    """One part for each example, in order."""
    split = Split.objects.create(version=run.version, name=name, seed=7, shares={"train": 34, "validation": 33})
    examples = Example.objects.of_version(run.version).order_by("number")
    Member.objects.bulk_create(
        Member(split=split, example=example, part=part) for example, part in zip(examples, parts, strict=True)
    )
    return split


def kept_of(export: Export) -> list[str]:
    """Contents in the storage that were written for it."""
    try:
        _, names = default_storage.listdir(export.project.uid)
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith(export.uid)]
