"""The bar above the matrix: what is asked for, and the addresses that ask for a little more or less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet

from apps.datasets.admin.view import View
from apps.datasets.models import Item, Run
from apps.datasets.reviews import search
from apps.datasets.reviews.filters import Filters
from apps.datasets.reviews.rows import ColumnHead

# What a chip asks for; pressed again, it asks for it no more.
CHIPS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Differs", {"show": "differs"}),
    ("Starred", {"starred": "yes"}),
    ("Unstarred", {"starred": "no"}),
    ("Failed", {"failed": "yes"}),
    ("Incomplete", {"incomplete": "yes"}),
    ("Rejected", {"rejected": "yes"}),
    ("Edited", {"edited": "yes"}),
    ("Mine to do", {"reviewed": "todo"}),
)
NOTHING = Filters()
WORDS = {
    "show": "answers", "starred": "star", "rated": "rated", "rating_min": "rating from", "rating_max": "rating to",
    "thumb": "thumb", "tag": "tag", "failed": "failed", "incomplete": "incomplete",
    "length_min": "characters from", "length_max": "characters to",
    "score_min": "judge from", "score_max": "judge to", "reviewed": "reviewed", "assigned": "assigned to",
    "rejected": "rejected", "edited": "edited", "text": "words", "reviewer": "reviewer",
}  # fmt: skip
IN_COLUMN = {
    "failed": "Failed there",
    "incomplete": "Incomplete there",
    "missing": "No answer there",
    "longest": "Longest there",
    "edited": "Edited there",
}

CHOICES = {
    "thumb": [("", "or not"), ("up", "up, by anybody"), ("down", "down, by anybody"), ("none", "none"), ("mine", "by")],
    "rated": [("", "or not"), ("yes", "by somebody"), ("no", "by nobody")],
    "reviewed": [("", "or not"), ("yes", "by anybody"), ("no", "by nobody"), ("mine", "by"), ("todo", "not yet by")],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    label: str
    on: bool
    address: str


def bar(run: Run, view: View, me: User, columns: Sequence[ColumnHead]) -> dict[str, Any]:
    reviewers = User.objects.filter(membership__project=run.project_id).order_by("username")
    return {
        "chips": [_everything(view), *(_chip(view, label, asked) for label, asked in CHIPS)],
        "more": _more(view, columns),
        "values": view.filters,
        "columns": [] if view.blind else columns,
        "column_is": list(IN_COLUMN.items()),
        "reviewers": sorted({me.username, *reviewers.values_list("username", flat=True)[:200]}),
        "kept": _kept(view),
    }


def previous(run: Run, view: View, me: User, rows: int) -> int:
    """The number after which the page before this one begins; 0 for the first page."""
    items = view.filters.apply_but_text(Item.objects.all(), run=run, reviewer=me).filter(number__lte=view.after)
    numbers = search.first(items, view.filters.text, run, limit=rows + 1, read=_numbers, backwards=True)
    return numbers[rows] if len(numbers) > rows else 0


def _numbers(items: QuerySet[Item]) -> list[int]:
    return list(items.values_list("number", flat=True))


def _everything(view: View) -> Chip:
    address = replace(view, filters=Filters(show="all"), after=0).address()
    return Chip(label="All", on=view.filters == NOTHING, address=address)


def _chip(view: View, label: str, asked: dict[str, str]) -> Chip:
    on = all(getattr(view.filters, name) == value for name, value in asked.items())
    wanted = {name: getattr(NOTHING, name) for name in asked} if on else asked
    return Chip(label=label, on=on, address=view.with_filters(**wanted).address())


def _more(view: View, columns: Sequence[ColumnHead]) -> list[Chip]:
    """What is asked for beyond the chips, each with the address that asks for it no more."""
    pressed = {(name, value) for _, asked in CHIPS for name, value in asked.items()}
    found = []
    for name, word in WORDS.items():
        value = getattr(view.filters, name)
        if value == getattr(NOTHING, name) or (name, value) in pressed:
            continue
        cleared = view.with_filters(**{name: getattr(NOTHING, name)})
        found.append(Chip(label=f"{word}: {value}", on=True, address=cleared.address()))
    if view.filters.column is not None and view.filters.column_is:
        label = next((head.label for head in columns if head.column == view.filters.column), "")
        cleared = view.with_filters(column=None, column_is="")
        found.append(Chip(label=f"{IN_COLUMN[view.filters.column_is]}: {label}", on=True, address=cleared.address()))
    return found


def _kept(view: View) -> dict[str, str]:
    """What the form of filters has no field for, and must not lose."""
    kept = {"baseline": view.baseline, "render": view.render, "height": view.height, "show": view.filters.show}
    kept |= {"diff": "1" if view.diff else None, "blind": "1" if view.blind else None}
    kept |= {name: getattr(view.filters, name) for name in ("starred", "failed", "incomplete", "rejected", "edited")}
    return {name: str(value) for name, value in kept.items() if value not in (None, "")}
