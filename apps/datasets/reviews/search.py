"""Full text over the prompts and answers of a run, through the indexes of both.

PostgreSQL finds rare words through an index in milliseconds. For a word that is in most texts the index brings hundreds
of thousands of rows, though a page wants 25 of them: then it is quicker to read on from where the page begins. Which of
the two it is, PostgreSQL's own statistics of words say. Nothing helps with a phrase of common words that is nowhere:
whatever takes longer than SECONDS is given up.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.contrib.postgres.search import SearchQuery
from django.db import OperationalError, connection, transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from psycopg.errors import QueryCanceled

from apps.core.errors import DomainError
from apps.datasets.models import Answer, Example, Item, Run
from apps.datasets.models.dataset import SEARCH_CONFIG, searchable

SECONDS: float = 5  # of a statement
COUNT_SECONDS: float = 1
MEMORY = "64MB"  # of a search; with less, PostgreSQL reads texts again that its index has found already
COMMON = 0.1  # of all answers
WALK = 500  # items that are read on without the index
INTEGER = 2**31 - 1  # PostgreSQL's largest

_BOUNDS = """
SELECT set_config('statement_timeout', %s, true), set_config('work_mem', %s, true),
    (SELECT reltuples FROM pg_class WHERE oid = 'datasets_answer'::regclass)
"""

Found = TypeVar("Found")


def indexed(items: QuerySet[Item], text: str, run: Run) -> QuerySet[Item]:
    """Those with the words in the prompt or in an answer of the run, found through the indexes."""
    own = Example.objects.filter(dataset=run.dataset_id).alias(words=searchable("prompt"))
    prompts = own.filter(words=_query(text)).order_by().values("pk")
    return items.filter(example__in=prompts.union(_answers(text, run).values("example")))


def first(
    items: QuerySet[Item],
    text: str,
    run: Run,
    *,
    limit: int,
    read: Callable[[QuerySet[Item]], list[Found]],
    backwards: bool = False,
) -> list[Found]:
    """The first `limit` of `items` with the words, by number; `read` is given the query. Any of them without words.

    Raises `DomainError` when it takes too long.
    """
    items = items.order_by("-number" if backwards else "number")
    if not text:
        return read(items[:limit])
    with _bounded(SECONDS) as answers:
        if _expected(text) >= COMMON * answers:
            end = Subquery(items.values("number")[WALK : WALK + 1])
            near = Q(number__gt=Coalesce(end, -1)) if backwards else Q(number__lt=Coalesce(end, INTEGER))
            found = read(_said(items.filter(near), text, run)[:limit])
            if len(found) == limit:
                return found
        return read(indexed(items, text, run)[:limit])


def count(items: QuerySet[Item], text: str, run: Run, *, limit: int) -> int | None:
    """How many of `items` have the words, counted up to `limit`; None when that takes longer than COUNT_SECONDS."""
    if not text:
        return items.order_by().values("pk")[:limit].count()
    try:
        with _bounded(COUNT_SECONDS):
            return indexed(items, text, run).order_by().values("pk")[:limit].count()
    except DomainError:
        return None


def _said(items: QuerySet[Item], text: str, run: Run) -> QuerySet[Item]:
    """The words are looked for in the texts of each item. Not by EXISTS, which PostgreSQL would turn round."""
    answers = _answers(text, run).filter(example=OuterRef("example")).values("pk")[:1]
    looked = items.alias(words=searchable("example__prompt"), said=Subquery(answers))
    return looked.filter(Q(words=_query(text)) | Q(said__isnull=False))


def _answers(text: str, run: Run) -> QuerySet[Answer]:
    said = Answer.objects.filter(column__run=run).alias(words=searchable("text")).filter(words=_query(text))
    return said.order_by()


def _query(text: str) -> SearchQuery:
    return SearchQuery(text, search_type="websearch", config=SEARCH_CONFIG)


@contextmanager
def _bounded(seconds: float) -> Iterator[float]:
    """A transaction with room for large indexes, whose statements end in time. Gives about how many answers exist."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_BOUNDS, [f"{round(seconds * 1000)}ms", MEMORY])
            yield cursor.fetchone()[2]
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        raise DomainError("This search takes too long. Look for rarer words, or for fewer.", param="text") from error


def _expected(text: str) -> float:
    """Of all answers, how many PostgreSQL believes to have the words."""
    said = Answer.objects.alias(words=searchable("text")).filter(words=_query(text)).order_by().values("pk")
    sql, values = said.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", values)
        plan = cursor.fetchone()[0]
    return float((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"])
