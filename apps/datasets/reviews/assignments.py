"""Who should look at what: a run's items, dealt out to reviewers; and what comes next for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery

from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Assignment, Example, Item, Review, Run
from apps.datasets.reviews import locks
from apps.datasets.reviews.filters import Filters

CHUNK = 20_000  # rows of one statement
TRIES = 5  # at what comes next, while others take it

_INSERT = """
INSERT INTO datasets_assignment (run_id, example_id, reviewer_id)
SELECT %s, example, reviewer FROM unnest(%s::bigint[], %s::bigint[]) AS dealt (example, reviewer)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    reviewer: str
    assigned: int
    done: int  # of the assigned: decided, the rejected ones included
    rejected: int


def assign(*, run: Run, reviewers: Sequence[User], filters: Filters | None = None, overlap: int | None = None) -> int:
    """Deals the items that the filters leave, each to `overlap` reviewers (the dataset's number, unless given).

    Dealt again, these items are taken back from whoever had them first; the same reviewers, in the same order, get the
    same items. Nobody gets more than one item more than another. Gives the number of items. Raises `DomainError`.
    """
    overlap = overlap or run.dataset.overlap
    if len({reviewer.pk for reviewer in reviewers}) != len(reviewers) or not reviewers:
        raise DomainError("Name the reviewers, at least one, each once.", param="reviewers")
    if not 1 <= overlap <= len(reviewers):
        raise DomainError(
            f"Each example can have 1 to {len(reviewers)} of these reviewers; not {overlap}.", param="overlap"
        )
    items = (filters or Filters()).apply(Item.objects.all(), run=run)
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=run.pk)  # two deals at a time would mix
        examples = list(items.order_by("number").values_list("example", flat=True))
        Assignment.objects.filter(run=run, example__in=items.values("example")).delete()
        _write(run, reviewers, _deal(examples, len(reviewers), overlap))
    return len(examples)


def _write(run: Run, reviewers: Sequence[User], dealt: Iterator[tuple[int, int]]) -> None:
    with connection.cursor() as cursor:
        while chunk := list(islice(dealt, CHUNK)):
            examples = [example for example, _ in chunk]
            cursor.execute(_INSERT, [run.pk, examples, [reviewers[seat].pk for _, seat in chunk]])


def _deal(examples: Sequence[int], seats: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Example and seat. An example goes to those who have least; among them, to those who met each other least."""
    held, met = [0] * seats, [[0] * seats for _ in range(seats)]
    for example in examples:
        chosen: list[int] = []
        for _ in range(overlap):
            free = [seat for seat in range(seats) if seat not in chosen]
            seat = min(free, key=lambda seat: (held[seat], sum(met[seat][other] for other in chosen), seat))
            for other in chosen:
                met[seat][other] += 1
                met[other][seat] += 1
            chosen.append(seat)
            held[seat] += 1
        yield from ((example, seat) for seat in chosen)


def next_for(*, reviewer: User, run: Run, after: int = 0) -> int | None:
    """The number of the next item of the reviewer's queue that is not done and that nobody else works on.

    The queue is what is assigned to the reviewer; the whole run where nothing is assigned to anybody, but for what as
    many reviewers have done as the dataset wants. After the last one it goes on with the first.
    """
    queue = _queue(reviewer, run).values_list("number", flat=True).order_by("number")
    return queue.filter(number__gt=after).first() or queue.filter(number__lte=after).first()


def take_next(*, reviewer: User, run: Run, after: int = 0) -> int | None:
    """`next_for`, and its lock. Of two reviewers who come at once, each gets one of their own."""
    for _ in range(TRIES):
        number = next_for(reviewer=reviewer, run=run, after=after)
        if number is None:
            return None
        try:
            locks.take(example=Example.objects.get(dataset=run.dataset_id, number=number), reviewer=reviewer)
        except Conflict:
            continue
        return number
    raise Conflict("Others take examples of this queue faster than this. Try again.")


def progress(run: Run) -> list[Progress]:
    """Of each reviewer with something assigned, by username."""
    state = Review.objects.filter(example=OuterRef("example"), reviewer=OuterRef("reviewer")).values("state")
    rows = Assignment.objects.filter(run=run).annotate(state=Subquery(state[:1]), name=F("reviewer__username"))
    decided = Q(state__isnull=False) & ~Q(state=Review.State.OPEN)
    counted = rows.values("name").annotate(
        assigned=Count("pk"), done=Count("pk", filter=decided), rejected=Count("pk", filter=Q(state="rejected"))
    )
    return [
        Progress(reviewer=row["name"], assigned=row["assigned"], done=row["done"], rejected=row["rejected"])
        for row in counted.order_by("name")
    ]


def _queue(reviewer: User, run: Run) -> QuerySet[Item]:
    own = Review.objects.filter(example=OuterRef("example"), reviewer=reviewer).exclude(state=Review.State.OPEN)
    held = locks.live().filter(example=OuterRef("example")).exclude(reviewer=reviewer)
    items = Item.objects.filter(~Exists(own), ~Exists(held), run=run)
    assigned = Assignment.objects.filter(run=run)
    if assigned.exists():
        return items.filter(Exists(assigned.filter(reviewer=reviewer, example=OuterRef("example"))))
    return items.filter(reviews__lt=run.dataset.overlap)
