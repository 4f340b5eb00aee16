"""What the page of a dataset shows, as plain values for its templates: as many queries, however much there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Count, QuerySet

from apps.core.errors import DomainError
from apps.datasets import duplicates, examples
from apps.datasets.imports import job as importing
from apps.datasets.jobs import current, currents
from apps.datasets.models import Dataset, Duplicate, DuplicateSearch, Example, Export, Import, Run, Split, Star, Version
from apps.datasets.reviews.rendering import visible
from apps.datasets.splits import SHARES

SHOWN = 10  # of each list; the rest is in the API
CELL = 240  # characters
PAIRS = 50
INTEGER = 2**31 - 1  # PostgreSQL's largest


def detail(dataset: Dataset, query: Mapping[str, str]) -> dict[str, Any]:
    """`query` says which page of which version's examples: version, q, tag, after."""
    versions = list(Version.objects.filter(dataset=dataset).order_by("-number")[:SHOWN])
    imports = Import.objects.filter(dataset=dataset).select_related("version", "created_by", "run", "errors_file")[
        :SHOWN
    ]
    searches = DuplicateSearch.objects.filter(version__dataset=dataset).select_related("version")[:SHOWN]
    return {
        "versions": versions,
        "latest": versions[0] if versions else None,
        "imports": currents(imports[:SHOWN], importing.TOPIC),
        "searches": currents(searches, duplicates.TOPIC),
        "splits": Split.objects.filter(version__dataset=dataset).select_related("version")[:SHOWN],
        "shares": SHARES,
        "runs": _runs(dataset)[:SHOWN],
        "exports": Export.objects.filter(dataset=dataset).select_related("run")[:SHOWN],
        "stars": Star.objects.filter(example__dataset=dataset).count(),
        **_examples(dataset, versions, query),
    }


def _runs(dataset: Dataset) -> QuerySet[Run]:
    """The latest first, with their numbers of models."""
    runs = Run.objects.filter(dataset=dataset).select_related("version")
    return runs.order_by("-pk").annotate(models=Count("columns"))


def _examples(dataset: Dataset, versions: list[Version], query: Mapping[str, str]) -> dict[str, Any]:
    version = _version(dataset, versions, query.get("version", ""))
    search, tag, after = query.get("q", "").strip(), query.get("tag", "").strip(), _number(query.get("after", ""))
    shown: dict[str, Any] = {"version": version, "search": search, "tag": tag, "after": after, "refused": ""}
    if version is None:
        return {**shown, "rows": [], "next": None}
    try:
        page = examples.read_page(version, search=search, tag=tag, after=after)
    except DomainError as error:
        return {**shown, "rows": [], "next": None, "refused": error.message}
    return {**shown, "rows": [_row(example) for example in page.examples], "next": page.after}


def _version(dataset: Dataset, versions: list[Version], number: str) -> Version | None:
    """The one that is asked for, else the latest."""
    wanted = _number(number)
    if not wanted:
        return versions[0] if versions else None
    known = next((version for version in versions if version.number == wanted), None)
    return known or Version.objects.filter(dataset=dataset, number=wanted).first()


def _row(example: Example) -> dict[str, Any]:
    return {
        "number": example.number,
        "key": example.key[:40],
        "prompt": visible(example.prompt[:CELL]),
        "reference": visible(example.reference[:CELL]),
        "tags": example.tags,
    }


def _number(text: str) -> int:
    return min(int(text), INTEGER) if text.isascii() and text.isdecimal() and len(text) < 11 else 0


def pairs(search: DuplicateSearch, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of what a search found, each with both texts."""
    found: list[Duplicate] = []
    if search.status == DuplicateSearch.Status.COMPLETED:
        rows = Duplicate.objects.filter(search=search, pk__gt=_number(query.get("after", "")))
        rows = rows.select_related("example", "of").order_by("pk")
        found = list(rows.defer("example__data", "of__data", "example__messages", "of__messages")[: PAIRS + 1])
    shown = found[:PAIRS]
    return {
        "search": search,
        "progress": current(search, duplicates.TOPIC),
        "pairs": [(pair, visible(pair.example.prompt[:CELL]), visible(pair.of.prompt[:CELL])) for pair in shown],
        "next": shown[-1].pk if len(found) > len(shown) else None,
    }
