"""Which items of a run somebody wants: for the matrix, the API and exports alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

from django.contrib.auth.models import User
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Length

from apps.batches.answers import CUT_OFF, FILTERED
from apps.core.errors import DomainError
from apps.core.text import MAX_NAME, nearest_name, unrecognized
from apps.datasets.models import Answer, Assignment, Column, Item, Review, Run, Star, Thumb
from apps.datasets.reviews import search, words

TEXT_CHARACTERS = 500  # of a search
INTEGER = 2**31 - 1  # PostgreSQL's largest
INCOMPLETE = Q(error="") & (
    ~Q(refusal="")
    | Q(finish_reason__iregex=f"^({'|'.join((*CUT_OFF, FILTERED))})$")
    | (Q(tool_calls="") & ~Q(text__regex=r"\S"))
)
"""Of answers; `apps.batches.answers.incomplete` in SQL."""
THUMBS = {"up": Q(thumbs_up__gt=0), "down": Q(thumbs_down__gt=0), "none": Q(thumbs_up=0, thumbs_down=0)}


def _one_of(values: tuple[str, ...], name: str, text: str) -> str:
    if text not in values:
        raise DomainError(f"'{name}' is one of {', '.join(values)}; not {text[:50]!r}.", param=name)
    return text


def _integer(low: int, high: int, name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not low <= int(text) <= high:
        raise DomainError(f"'{name}' is a whole number from {low:,} to {high:,}.", param=name)
    return int(text)


def _decimal(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DomainError(f"'{name}' is a number, like 3.5.", param=name)
    return number


def _text_of(longest: int, name: str, text: str) -> str:
    return words.checked(text, longest=longest, param=name)


def _tag(name: str, text: str) -> str:
    return words.tag(text, param=name)


def _choice(*values: str, default: str = "") -> Any:
    return field(default=default, metadata={"parse": partial(_one_of, values)})


def _number(parse: Callable[[str, str], Any]) -> Any:
    return field(default=None, metadata={"parse": parse})


def _text(parse: Callable[[str, str], str]) -> Any:
    return field(default="", metadata={"parse": parse})


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Conditions that all hold for an item; a field that is empty or None asks for nothing."""

    show: str = _choice("all", "differs", "same", default="all")
    """"differs": two columns answered with different texts; "same": none did."""
    starred: str = _choice("yes", "no", "mine")
    rated: str = _choice("yes", "no")
    rating_min: int | None = _number(partial(_integer, 1, 5))
    """Of the best rating that any answer got."""
    rating_max: int | None = _number(partial(_integer, 1, 5))
    thumb: str = _choice("up", "down", "none", "mine")
    """Whether any answer has such a thumb, of whomever; "mine": one of `reviewer`'s."""
    tag: str = _text(_tag)
    failed: str = _choice("yes", "no")
    incomplete: str = _choice("yes", "no")
    """Whether an answer is blank, cut off, filtered or refused."""
    length_min: int | None = _number(partial(_integer, 0, INTEGER))
    """In characters, of the longest answer."""
    length_max: int | None = _number(partial(_integer, 0, INTEGER))
    """In characters, of the shortest answer."""
    column: int | None = _number(partial(_integer, 0, 32767))
    """The position of the column that `column_is` is about."""
    column_is: str = _choice("failed", "incomplete", "missing", "longest", "edited")
    score_min: float | None = _number(_decimal)
    """Of the best score that the latest judge gave to any answer."""
    score_max: float | None = _number(_decimal)
    reviewed: str = _choice("yes", "no", "mine", "todo")
    """"yes", "no": whether anybody has decided; "mine", "todo": whether `reviewer` has."""
    assigned: str = _choice("mine")
    rejected: str = _choice("yes", "no")
    edited: str = _choice("yes", "no")
    text: str = _text(partial(_text_of, TEXT_CHARACTERS))
    """Words in the prompt or in an answer of the run, as people type them: "a phrase", or, -without."""
    reviewer: str = _text(partial(_text_of, 150))
    """The username that "mine" and "todo" are about."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Raises `DomainError` that names the parameter. Unknown ones are ignored, empty ones ask for nothing."""
        given = {each.name: each.metadata["parse"] for each in fields(cls) if query.get(each.name, "")}
        return cls(**{name: parse(name, query[name]) for name, parse in given.items()})

    @classmethod
    def named(cls, given: Mapping[str, str]) -> Self:
        """As `parse`, where all that is given is filters: an unknown one, which would leave more items, is refused."""
        names = [each.name for each in fields(cls)]
        for unknown in (name[:MAX_NAME] for name in given if name not in names):
            sentence = unrecognized(unknown, nearest_name(unknown, names))
            raise DomainError(sentence, param=unknown, code="unknown_parameter")
        return cls.parse(given)

    def as_query(self) -> dict[str, str]:
        """What `parse` takes; only what differs from the default."""
        values = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return {name: str(value) for name, value in values.items()}

    def seen_by(self, reviewer: User | None) -> Self:
        """The same with `reviewer` named, where "mine" or "todo" leaves open whose."""
        return replace(self, reviewer=reviewer.username) if self._personal and reviewer and not self.reviewer else self

    def apply(self, items: QuerySet[Item], *, run: Run, reviewer: User | None = None) -> QuerySet[Item]:
        """Of `items`, those of `run` that meet every condition, in no new order. `reviewer` as in `seen_by`.

        Raises `DomainError` for a column that the run lacks, and for "mine" when nobody is named.
        """
        items = self.apply_but_text(items, run=run, reviewer=reviewer)
        return search.indexed(items, self.text, run) if self.text else items

    def apply_but_text(self, items: QuerySet[Item], *, run: Run, reviewer: User | None = None) -> QuerySet[Item]:
        """The same without the search, which pages do their own way: see `search.first`."""
        items = items.filter(self._facts(), run=run)
        if self.tag:
            items = items.filter(example__tags__contains=[self.tag])
        if self.column is not None and self.column_is:
            items = self._by_column(items, run)
        return self._by_reviewer(items, run, reviewer) if self._personal else items

    @property
    def _personal(self) -> bool:
        return "mine" in (self.starred, self.thumb, self.reviewed, self.assigned) or self.reviewed == "todo"

    def _facts(self) -> Q:
        """What is kept beside the item itself."""
        flags = {"starred": self.starred, "rejected": self.rejected, "edited": self.edited}
        q = Q(**{name: value != "no" for name, value in flags.items() if value})
        q &= Q(**{name: value for name, value in self._bounds().items() if value is not None})
        if self.show != "all":
            q &= Q(differs=self.show == "differs")
        if self.failed:
            q &= Q(failed__gt=0) if self.failed == "yes" else Q(failed=0)
        if self.incomplete:
            q &= Q(incomplete__gt=0) if self.incomplete == "yes" else Q(incomplete=0)
        q &= THUMBS.get(self.thumb, Q())
        if self.rated:
            q &= Q(rating__isnull=self.rated == "no")
        if self.reviewed and self.reviewed != "todo":
            q &= Q(reviews=0) if self.reviewed == "no" else Q(reviews__gt=0)
        return q

    def _bounds(self) -> dict[str, float | None]:
        return {
            "rating__gte": self.rating_min, "rating__lte": self.rating_max,
            "longest__gte": self.length_min, "shortest__lte": self.length_max,
            "judge_score__gte": self.score_min, "judge_score__lte": self.score_max,
        }  # fmt: skip

    def _by_reviewer(self, items: QuerySet[Item], run: Run, reviewer: User | None) -> QuerySet[Item]:
        own = {"example": OuterRef("example"), "reviewer": self._named(reviewer)}
        if self.starred == "mine":
            items = items.filter(Exists(Star.objects.filter(**own)))
        if self.thumb == "mine":
            given = Thumb.objects.filter(answer__column__run=run, answer__example=OuterRef("example"))
            items = items.filter(Exists(given.filter(reviewer=self._named(reviewer))))
        if self.reviewed in ("mine", "todo"):
            decided = Exists(Review.objects.filter(**own).exclude(state=Review.State.OPEN))
            items = items.filter(decided if self.reviewed == "mine" else ~decided)
        if self.assigned:
            items = items.filter(Exists(Assignment.objects.filter(**own, run=run)))
        return items

    def _named(self, reviewer: User | None) -> User:
        name = self.reviewer or (reviewer.username if reviewer else "")
        if not name:
            raise DomainError("Say whose: name a 'reviewer' by username.", param="reviewer")
        found = reviewer if reviewer and reviewer.username == name else User.objects.filter(username=name).first()
        if found is None:
            raise DomainError(f"There is no user {name!r}.", param="reviewer")
        return found

    def _by_column(self, items: QuerySet[Item], run: Run) -> QuerySet[Item]:
        """What is asked of the item holds wherever its answers have what is wanted, and spares reading most answers."""
        columns = list(Column.objects.filter(run=run))
        column = next((each for each in columns if each.position == self.column), None)
        if column is None:
            raise DomainError(f"The run has no column {self.column}; it has {len(columns)}, from 0.", param="column")
        answers = Answer.objects.filter(column=column, example=OuterRef("example"))
        models = answers.filter(edit_of=None)  # of which there is an index by column and example
        if self.column_is == "failed":
            return items.filter(Exists(models.exclude(error="")), failed__gt=0)
        if self.column_is == "incomplete":
            return items.filter(Exists(models.filter(INCOMPLETE)), incomplete__gt=0)
        if self.column_is == "missing":
            return items.filter(~Exists(models), answered__lt=len(columns))
        if self.column_is == "edited":
            return items.filter(Exists(answers.exclude(edit_of=None)), edited=True)
        sized = answers.filter(error="").annotate(size=Length("text"))
        return items.filter(Exists(sized.filter(size=OuterRef("longest"))), longest__gt=F("shortest"))
