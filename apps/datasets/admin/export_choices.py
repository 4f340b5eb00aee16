"""What the page of a new export offers, and what was chosen on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest

from apps.accounts.tenant_admin import CURATORS, projects_where, signed_in
from apps.core.errors import DomainError
from apps.datasets.admin.filterbar import WORDS
from apps.datasets.exports import services as exports
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.selection import COLUMN, LABEL_POLICIES, LEAVE_OUT, PAIR_POLICIES, POLICIES, Selection
from apps.datasets.models import Dataset, Member, Run, Split
from apps.datasets.reviews.filters import Filters
from apps.models.models import HubToken

OFFERED = 200  # datasets, runs and splits in a list
TITLES = {
    "starred": "Gold star",
    "best_rated": "Best rated",
    "reference": "Expected answer",
    "preferences": "Preferences",
    "starred_pairs": "Gold star against the rest",
    "thumbs": "Thumbs",
    "reference_pairs": "Expected against rejected",
    "reference_labels": "Expected and rejected",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Of the query of a link, of the form, or of the form as it stands while somebody fills it in."""

    dataset: Dataset | None
    run: Run | None
    format: str
    answers: str
    filters: Filters
    split: Split | None
    part: str
    repository: str
    incomplete: str = LEAVE_OUT

    def selection(self) -> Selection:
        """Raises `DomainError`."""
        return exports.select(
            dataset=self._dataset(), format=self.format, run=self.run, filters=self.filters, split=self.split,
            part=self.part, answers=self.answers, incomplete=self.incomplete,
        )  # fmt: skip

    def start(self, request: HttpRequest) -> Any:
        """The export. Raises `DomainError`."""
        return exports.start_export(
            dataset=self._dataset(), format=self.format, run=self.run, filters=self.filters, split=self.split,
            part=self.part, answers=self.answers, repository=self.repository,
            incomplete=self.incomplete, created_by=signed_in(request),
        )  # fmt: skip

    def _dataset(self) -> Dataset:
        if self.dataset is None:
            raise DomainError("Choose a dataset.", param="dataset")
        return self.dataset


def read(request: HttpRequest, query: Mapping[str, str]) -> Chosen:
    """What is not the user's to export is not there. Raises `DomainError` for filters that make no sense."""
    mine = datasets(request)
    run = _one(Run.objects.filter(dataset__in=mine).select_related("version", "dataset"), query.get("run", ""))
    dataset = _one(mine, query.get("dataset", "")) or (run and run.dataset)
    if run and dataset != run.dataset:
        run = None
    splits = Split.objects.filter(version__dataset=dataset).select_related("version__dataset")
    return Chosen(
        dataset=dataset,
        run=run,
        format=query.get("format", "chat"),
        answers=query.get("answers", ""),
        filters=Filters.parse(query).seen_by(signed_in(request)) if run else Filters(),
        split=_one(splits, query.get("split", "")) if dataset else None,
        part=query.get("part", ""),
        repository=query.get("repository", "").strip(),
        incomplete=query.get("not_whole", LEAVE_OUT),  # `incomplete` is a filter's name
    )


def offer(request: HttpRequest, chosen: Chosen) -> dict[str, Any]:
    """The page's choices, in a constant number of queries."""
    dataset, run = chosen.dataset, chosen.run
    return {
        "chosen": chosen,
        "datasets": datasets(request).select_related("project")[:OFFERED],
        "runs": dataset.runs.all()[:OFFERED] if dataset else [],
        "formats": FORMATS.values(),
        "policies": policies(run),
        "usual": {name: exports.usual_answers(name, run) for name in FORMATS},
        "splits": Split.objects.filter(version__dataset=dataset)[:OFFERED] if dataset else [],
        "parts": Member.Part.choices,
        "chips": [
            (name, value, f"{WORDS.get(name, name)}: {value}") for name, value in chosen.filters.as_query().items()
        ],
        "has_token": dataset is not None and HubToken.objects.filter(project=dataset.project_id).exists(),
    }


def policies(run: Run | None) -> list[tuple[str, str, str, str]]:
    """(value, title, sentence, what it gives: "answers", "pairs" or "labels"), those that make sense."""
    columns = run.columns.order_by("position").values_list("label", flat=True) if run else []
    return [
        *((name, TITLES[name], sentence, "answers") for name, sentence in POLICIES.items()),
        *((f"{COLUMN}{label}", label, "Whatever it answered", "answers") for label in dict.fromkeys(columns)),
        *((name, TITLES[name], sentence, "pairs") for name, sentence in PAIR_POLICIES.items()),
        *((name, TITLES[name], sentence, "labels") for name, sentence in LABEL_POLICIES.items()),
    ]


def datasets(request: HttpRequest) -> QuerySet[Dataset]:
    """Those that the user may export."""
    return Dataset.objects.filter(project__in=projects_where(request, CURATORS))


def _one(rows: QuerySet[Any], name: str) -> Any:
    """The row of this public id or number, or None."""
    if "\0" in name:
        return None
    number = Q(pk=int(name)) if name.isdecimal() and name.isascii() and len(name) < 19 else Q()
    return rows.filter(Q(uid=name) | number if number else Q(uid=name)).first() if name else None
