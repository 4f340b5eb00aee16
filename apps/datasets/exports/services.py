"""What can be done with exports; the API, the admin and the command call these."""

import re

from django.contrib.auth.models import User
from django.db import connection, transaction

from apps.batches.services import delete_file
from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.datasets.exports.formats import FORMATS, Format
from apps.datasets.exports.job import KIND, NOTHING, left_out_sentence
from apps.datasets.exports.pushing import token_of
from apps.datasets.exports.selection import (
    COLUMN,
    INCLUDE,
    LABEL_POLICIES,
    LEAVE_OUT,
    PAIR_POLICIES,
    POLICIES,
    Selection,
    is_unpaired,
)
from apps.datasets.models import Dataset, Export, Member, Run, Split, Thumb
from apps.datasets.reviews.filters import Filters

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
PUSHED = "huggingface"  # the format that the hub understands


def start_export(  # noqa: PLR0913 - a choice each
    *,
    dataset: Dataset,
    format: str,  # noqa: A002 - the field's own word
    run: Run | None = None,
    filters: Filters | None = None,
    split: Split | None = None,
    part: str = "",
    answers: str = "",
    repository: str = "",
    incomplete: str = LEAVE_OUT,
    created_by: User | None = None,
) -> Export:
    """An export that waits for a worker. Of the items of a run; without one, of a version: the split's, or the latest.

    `answers` is one of `selection.POLICIES`, `PAIR_POLICIES` or `LABEL_POLICIES`, "column:LABEL", or empty for what
    the format usually takes. `incomplete` is "leave_out" or "include": what becomes of answers that are cut off,
    filtered or refused, unless somebody starred them, and was asked then. Raises `DomainError`, also when there is
    nothing to export.
    """
    selection = select(
        dataset=dataset, format=format, run=run, filters=(filters or Filters()).seen_by(created_by), split=split,
        part=part, answers=answers, incomplete=incomplete,
    )  # fmt: skip
    if repository:
        check_repository(dataset, format, repository)
    if not count(selection):
        raise DomainError(f"{NOTHING}{left_out_sentence(left_out(selection))}", code="nothing_to_export")
    with transaction.atomic():
        export = Export.objects.create(
            project=dataset.project,
            dataset=dataset,
            run=run,
            format=format,
            spec=_spec(selection),
            repository=repository,
            created_by=created_by,
        )
        bell.ring("control")
    export.refresh_from_db()
    return export


def select(
    *,
    dataset: Dataset,
    format: str,  # noqa: A002
    run: Run | None,
    filters: Filters,
    split: Split | None,
    part: str,
    answers: str,
    incomplete: str = LEAVE_OUT,
) -> Selection:
    """What such an export would hold. Raises `DomainError`."""
    answers = answers or usual_answers(format, run)
    _check_choices(format, answers, run)
    _check_split(dataset, split, part)
    if incomplete not in (LEAVE_OUT, INCLUDE):
        raise DomainError(f"incomplete is {LEAVE_OUT} or {INCLUDE}; not {incomplete[:50]!r}.", param="incomplete")
    if run and run.dataset_id != dataset.pk:
        raise DomainError(f"The run {run} belongs to another dataset: choose one of {dataset}.", param="run")
    if run is None and filters != Filters():
        raise DomainError("Filters are about the items of a run: choose the run too.", param="filters")
    version = run.version if run else split.version if split else dataset.versions.order_by("-number").first()
    if version is None:
        raise DomainError(f"{dataset} has no examples yet: import some.", param="dataset")
    selection = Selection(
        version=version, run=run, filters=filters, split=split, part=part, answers=answers,
        unpaired=is_unpaired(format, answers), incomplete=incomplete == INCLUDE,
    )  # fmt: skip
    selection.examples()
    return selection


def count(selection: Selection) -> int:
    """How many rows it has now, as a query; formats may leave some out."""
    connection.ensure_connection()
    return selection.count(connection.connection)


def left_out(selection: Selection) -> dict[str, int]:
    """How many of the chosen answers are not among its rows now; see `Selection.left_out`."""
    connection.ensure_connection()
    return selection.left_out(connection.connection)


def usual_answers(format: str, run: Run | None) -> str:  # noqa: A002
    chosen = FORMATS.get(format)
    if chosen and chosen.labels and run and Thumb.objects.filter(answer__column__run=run).exists():
        return "thumbs"
    if chosen and not chosen.answers:
        return "preferences" if run or chosen.pairs else "reference_labels"
    return "starred" if run else "reference"


def check_repository(dataset: Dataset, format: str, repository: str) -> None:  # noqa: A002
    """Raises `DomainError`."""
    if format != PUSHED:
        raise DomainError(f"Only a {FORMATS[PUSHED].title} can be pushed: choose it.", param="format")
    if not REPOSITORY.fullmatch(repository):
        raise DomainError("A repository is named owner/name: letters, digits, '.', '_', '-'.", param="repository")
    token_of(dataset.project_id)


def cancel_export(*, export: Export) -> bool:
    """Stop it within seconds; nothing of it is kept. False when it has ended, or was cancelled before."""
    return KIND.cancel(export)


def delete_export(*, export: Export) -> None:
    """Forget the export and its files. Raises `Conflict` while it goes on."""
    with transaction.atomic():
        found = Export.objects.select_for_update().filter(pk=export.pk).first()
        if found is None:
            return
        if found.status in Export.GOING:
            raise Conflict(f"The export is {found.status}: cancel it first.")
        for file in filter(None, (found.file, found.manifest_file, found.left_out_file)):
            delete_file(file=file)
        found.delete()


def _check_choices(format: str, answers: str, run: Run | None) -> None:  # noqa: A002
    if format not in FORMATS:
        raise DomainError(f"No format is called {format[:50]!r}; choose from {', '.join(FORMATS)}.", param="format")
    chosen, column = FORMATS[format], answers.startswith(COLUMN)
    if not column and answers not in POLICIES | PAIR_POLICIES | LABEL_POLICIES:
        known = ", ".join([*POLICIES, *PAIR_POLICIES, *LABEL_POLICIES])
        raise DomainError(f"answers is one of {known}, or column:LABEL; not {answers[:50]!r}.", param="answers")
    _check_kind(chosen, answers)
    if column and (run is None or not run.columns.filter(label=answers.removeprefix(COLUMN)).exists()):
        raise DomainError(f"The run has no column {answers.removeprefix(COLUMN)[:200]!r}.", param="answers")


def _check_kind(chosen: Format, answers: str) -> None:
    takes = {
        **(dict.fromkeys(POLICIES) if chosen.answers else {}),
        **(dict.fromkeys(PAIR_POLICIES) if chosen.pairs or chosen.labels else {}),
        **(dict.fromkeys(LABEL_POLICIES) if chosen.labels else {}),
    }
    if answers in takes or (answers.startswith(COLUMN) and chosen.answers):
        return
    what = "takes one answer each" if chosen.answers else "are pairs" if chosen.pairs else "are good and bad answers"
    raise DomainError(f"{chosen.title} {what}: choose {', '.join(takes)}.", param="answers")


def _check_split(dataset: Dataset, split: Split | None, part: str) -> None:
    if split is None and part:
        raise DomainError("A part is a part of a split: choose the split too.", param="split")
    if split and split.version.dataset_id != dataset.pk:
        raise DomainError(f"The split {split} belongs to another dataset.", param="split")
    if part and part not in Member.Part.values:
        raise DomainError(f"part is one of {', '.join(Member.Part.values)}; not {part[:50]!r}.", param="part")


def _spec(selection: Selection) -> dict[str, object]:
    return {
        "version": selection.version.number,
        "run": selection.run.uid if selection.run else "",
        "filters": selection.filters.as_query(),
        "split": selection.split.uid if selection.split else "",
        "part": selection.part,
        "answers": selection.answers,
        "incomplete": INCLUDE if selection.incomplete else LEAVE_OUT,
    }
