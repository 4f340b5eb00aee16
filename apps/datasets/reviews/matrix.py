"""A page of a run's matrix: examples in rows, a cell for each column.

A page costs the same few queries whatever it shows, and no text is read beyond CELL_CHARACTERS. Pages go on from a
number, which costs the same for the last page as for the first.
"""

from collections.abc import Sequence

from django.contrib.auth.models import User
from django.db.models import QuerySet

from apps.core.errors import DomainError
from apps.datasets.models import Item, Run
from apps.datasets.reviews import search
from apps.datasets.reviews.cells import Reader
from apps.datasets.reviews.filters import Filters
from apps.datasets.reviews.rows import Cell, ColumnHead, Compared, Count, Edit, Page, Row, Sample, Text

__all__ = [
    "Cell", "ColumnHead", "Compared", "Count", "Edit", "Page", "Row", "Sample", "Text", "count", "neighbours",
    "read_columns", "read_page", "read_row",
]  # fmt: skip

CELL_CHARACTERS = 4_000  # of each text on a page
ROW_CHARACTERS = 1_000_000  # of each text where one example is shown alone
PAGE_ITEMS = 100  # at most
COUNTED = 10_000  # items; beyond, "more"


def read_page(
    run: Run,
    *,
    filters: Filters,
    after: int = 0,
    limit: int = 25,
    reviewer: User | None,
    baseline: int | None = None,
    diff: bool = False,
) -> Page:
    """The `limit` items after the number `after`. `baseline` is a column's position: the first one's, unless given.

    Raises `DomainError` for filters that make no sense here, and for a baseline that the run lacks.
    """
    limit = max(1, min(limit, PAGE_ITEMS))
    wanted = _wanted(run, filters, reviewer).filter(number__gt=after)
    columns = read_columns(run)
    base = _position(columns, baseline)
    reader = Reader(run, columns, reviewer=reviewer, baseline=base, diff=diff, longest=CELL_CHARACTERS)
    items = search.first(wanted, filters.text, run, limit=limit + 1, read=reader.items)
    more = len(items) > limit
    rows = reader.rows(items[:limit])
    return Page(columns=columns, baseline=base, rows=rows, after=rows[-1].number if more else None)


def read_row(
    run: Run, number: int, *, reviewer: User | None, baseline: int | None = None, diff: bool = False
) -> Row | None:
    """One example, its texts up to ROW_CHARACTERS; None where the run has no such number."""
    columns = read_columns(run)
    base = _position(columns, baseline)
    reader = Reader(run, columns, reviewer=reviewer, baseline=base, diff=diff, longest=ROW_CHARACTERS)
    return next(iter(reader.rows(reader.items(Item.objects.filter(run=run, number=number)))), None)


def read_columns(run: Run) -> tuple[ColumnHead, ...]:
    return tuple(
        ColumnHead(
            column=column.position, id=column.pk, label=column.label, model_name=column.model_name,
            answered=column.answered, failed=column.failed,
            incomplete=column.incomplete, blank=column.blank,
        )
        for column in run.columns.order_by("position")
    )  # fmt: skip


def neighbours(run: Run, number: int, *, filters: Filters, reviewer: User | None) -> tuple[int | None, int | None]:
    """The numbers before and after this one among what the filters leave, which need not hold for it."""
    wanted = _wanted(run, filters, reviewer)
    before = search.first(wanted.filter(number__lt=number), filters.text, run, limit=1, read=_numbers, backwards=True)
    after = search.first(wanted.filter(number__gt=number), filters.text, run, limit=1, read=_numbers)
    return next(iter(before), None), next(iter(after), None)


def _numbers(items: QuerySet[Item]) -> list[int]:
    return list(items.values_list("number", flat=True))


def count(run: Run, *, filters: Filters, reviewer: User | None) -> Count:
    """How many items the filters leave, counted up to COUNTED; "many" where a search takes too long."""
    found = search.count(_wanted(run, filters, reviewer), filters.text, run, limit=COUNTED + 1)
    return Count(value=found and min(found, COUNTED), more=found is None or found > COUNTED)


def _wanted(run: Run, filters: Filters, reviewer: User | None) -> QuerySet[Item]:
    return filters.apply_but_text(Item.objects.all(), run=run, reviewer=reviewer)


def _position(columns: Sequence[ColumnHead], baseline: int | None) -> int | None:
    if baseline is None:
        return columns[0].column if columns else None
    if baseline not in [column.column for column in columns]:
        raise DomainError(f"The run has no column {baseline} to be the baseline.", param="baseline")
    return baseline
