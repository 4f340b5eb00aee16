"""What an export says about itself: enough to know how each row was chosen, and nothing that differs the next time."""

import json
from collections import Counter
from typing import Any

from django.db.models import Count, QuerySet

from apps.batches.storage import Stored
from apps.core.json_lines import escape_separators_in_bytes
from apps.datasets.exports.formats import Row
from apps.datasets.exports.left_out import LeftOut
from apps.datasets.exports.selection import COLUMN, LABEL_POLICIES, PAIR_POLICIES, POLICIES, Selection
from apps.datasets.models import Dataset, Preference, Rating, Run, Star, Thumb

PRODUCT = "vLLM Batch Server"
VERSION = "0.1.0"


class Tally:
    """Counts rows as they are read and written."""

    def __init__(self, left_out: LeftOut) -> None:
        self._parts: Counter[str] = Counter()
        self.left_out = left_out
        self.incomplete: dict[str, int] = {}
        """Chosen answers that are no rows, by why: see `Selection.left_out`."""

    @property
    def rows(self) -> int:
        return self._parts.total()

    def read(self, row: Row) -> None:
        self._parts[row.part] += 1
        self.left_out.saw(row.number)

    def leave_out(self, row: Row, reason: str) -> None:
        """`reason`: what the format has no place for."""
        self._parts[row.part] -= 1
        self.left_out.add(row.number, reason)

    def counts(self) -> dict[str, Any]:
        """`left_out` counts rows that the format cannot hold, `without_answer` examples that gave no row."""
        parts = {part: count for part, count in sorted(self._parts.items()) if count}
        left_out = self.left_out
        return {
            **({"incomplete": self.incomplete} if self.incomplete else {}),
            "rows": self.rows, "left_out": left_out.count, "parts": parts, "examples": left_out.examples,
            "without_answer": left_out.missing,
            "reasons": {each["message"]: each["rows"] for each in left_out.reasons.listed()},
        }  # fmt: skip


def describe(dataset: Dataset, selection: Selection, format_name: str) -> dict[str, Any]:
    """All but the counts and the file."""
    run, split = selection.run, selection.split
    return {
        "object": "export.manifest",
        "product": {"name": PRODUCT, "version": VERSION},
        "dataset": {"id": dataset.uid, "name": dataset.name, "description": dataset.description},
        "version": selection.version.number,
        "run": run and {"id": run.uid, "name": run.name, "parameters": run.parameters, "samples": run.samples},
        "filters": selection.filters.as_query(),
        "rejected_examples": "left out",
        "split": split and {"id": split.uid, "name": split.name, "seed": split.seed, "part": selection.part or "all"},
        "format": format_name,
        "pairs": selection.pairs,
        "answers": selection.answers,
        "answers_are": policy_of(selection.answers),
        "models": models_of(run),
        "reviewers": reviewers_of(selection),
    }


def policy_of(answers: str) -> str:
    if answers.startswith(COLUMN):
        return f"What {answers.removeprefix(COLUMN)} answered"
    return (POLICIES | PAIR_POLICIES | LABEL_POLICIES)[answers]


def models_of(run: Run | None) -> list[dict[str, str]]:
    columns = run.columns.order_by("position") if run else []
    return [{"label": each.label, "model": each.model_name, "revision": each.revision} for each in columns]


def reviewers_of(selection: Selection) -> dict[str, dict[str, int]]:
    """Username -> what they decided about the examples that were asked for: numbers of stars, ratings and so on."""
    examples, run = selection.examples().order_by().values("pk"), selection.run
    given: dict[str, tuple[QuerySet[Any], str, str]] = {
        "stars": (Star.objects.all(), "example", "answer__column__run"),
        "ratings": (Rating.objects.all(), "answer__example", "answer__column__run"),
        "thumbs": (Thumb.objects.all(), "answer__example", "answer__column__run"),
        "preferences": (Preference.objects.all(), "example", "left__column__run"),
    }
    found: dict[str, dict[str, int]] = {}
    for kind, (rows, example, its_run) in given.items():
        wanted = rows.filter(**{f"{example}__in": examples}, **({its_run: run} if run else {}))
        for name, count in wanted.values_list("reviewer__username").annotate(Count("pk")):
            found.setdefault(name, dict.fromkeys(given, 0))[kind] = count
    return dict(sorted(found.items()))


def complete(about: dict[str, Any], file: Stored, filename: str) -> dict[str, Any]:
    return about | {"file": {"name": filename, "bytes": file.bytes, "sha256": file.sha256}}


def encoded(manifest: dict[str, Any]) -> bytes:
    """The same manifest is the same bytes."""
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
    return escape_separators_in_bytes(text) + b"\n"
