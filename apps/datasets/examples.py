"""Pages of a version's examples: by keyset, as fast at the end as at the start."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.contrib.postgres.search import SearchQuery
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from psycopg.errors import QueryCanceled

from apps.core.errors import DomainError
from apps.datasets.models import Example, Version
from apps.datasets.models.dataset import SEARCH_CONFIG, searchable
from apps.datasets.reviews import words

PAGE = 25
SEARCH_CHARACTERS = 500
SEARCH_MILLISECONDS = 5_000


@dataclass(frozen=True, slots=True)
class Page:
    examples: list[Example]
    after: int | None
    """The number behind which the next page starts; None on the last one."""


def read_page(
    version: Version, *, search: str = "", tag: str = "", after: int = 0, limit: int = PAGE, newest: bool = False
) -> Page:
    """The first examples behind number `after`, with these words in the prompt, and this tag. Raises `DomainError`."""
    rows = Example.objects.of_version(version)
    if after:
        rows = rows.filter(number__lt=after) if newest else rows.filter(number__gt=after)
    if tag:
        rows = rows.filter(tags__contains=[words.tag(tag)])
    with _in_time():
        found = list(_matching(rows, search).order_by("-number" if newest else "number")[: limit + 1])
    shown = found[:limit]
    return Page(shown, shown[-1].number if len(found) > limit else None)


def _matching(rows: QuerySet[Example], search: str) -> QuerySet[Example]:
    text = words.checked(search.strip(), longest=SEARCH_CHARACTERS, param="search")
    if not text:
        return rows
    query = SearchQuery(text, search_type="websearch", config=SEARCH_CONFIG)
    return rows.alias(words=searchable("prompt")).filter(words=query)


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {SEARCH_MILLISECONDS}")
            yield
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        raise DomainError("This search takes too long. Look for rarer words, or for fewer.", param="search") from error
