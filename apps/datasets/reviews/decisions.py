"""The kinds of things that a reviewer decides about an example: how each is read and written, as JSON.

A state of None is the absence of a decision. Writing knows nothing of locks, history or rights: `reviews` does, and it
holds the example's row meanwhile, so that nobody else writes between reading and writing.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from django.db.models import Q
from django.db.models.functions import Now

from apps.core.errors import Conflict
from apps.datasets import items
from apps.datasets.models import Answer, Change, Example, Preference, Rating, Review, Star, Thumb


class Decision(Protocol):
    """One thing that can be decided."""

    @property
    def kind(self) -> str: ...

    @property
    def example(self) -> Example: ...

    @property
    def target(self) -> dict[str, Any]:
        """Which one of its kind it is."""

    def shares(self, *states: Any) -> bool:
        """Whether going between these states concerns the other reviewers too."""

    def read(self) -> Any: ...

    def write(self, state: Any) -> None: ...

    def refresh(self) -> None:
        """Bring what is kept beside the items up to date."""


@dataclass(frozen=True, kw_only=True)
class StarOf:
    """State: the answer, and who gave it the star. Without a reviewer it is the one star of the example."""

    kind: ClassVar[str] = "star"
    example: Example
    reviewer: int | None

    @property
    def target(self) -> dict[str, Any]:
        return {"reviewer": self.reviewer}

    def shares(self, *states: Any) -> bool:
        return self.reviewer is None

    def read(self) -> Any:
        return self._rows().values("answer", "reviewer").first()

    def write(self, state: Any) -> None:
        if state is None:
            self._rows().delete()
            return
        ids = {"answer_id": state["answer"], "reviewer_id": state["reviewer"]}
        if not self._rows().update(**ids):
            Star.objects.create(example=self.example, shared=self.reviewer is None, **ids)

    def refresh(self) -> None:
        items.refresh_reviews([self.example.pk])

    def _rows(self) -> Any:
        own = {} if self.reviewer is None else {"reviewer": self.reviewer}
        return Star.objects.filter(example=self.example, shared=self.reviewer is None, **own)


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """What one reviewer says of one answer, in a row of its own."""

    kind: ClassVar[str]
    model: ClassVar[type[Rating] | type[Thumb]]
    field: ClassVar[str]
    """Of the model, that holds the state."""
    example: Example
    answer: int
    reviewer: int

    @property
    def target(self) -> dict[str, Any]:
        return {"answer": self.answer}

    def shares(self, *states: Any) -> bool:
        return False

    def read(self) -> Any:
        return self._rows().values_list(self.field, flat=True).first()

    def write(self, state: Any) -> None:
        if state is None:
            self._rows().delete()
        elif not self._rows().update(**{self.field: state}):
            ids = {"answer_id": self.answer, "reviewer_id": self.reviewer}
            self.model.objects.create(**ids, **{self.field: state})

    def refresh(self) -> None:
        items.refresh_reviews([self.example.pk])

    def _rows(self) -> Any:
        return self.model.objects.filter(answer=self.answer, reviewer=self.reviewer)


@dataclass(frozen=True, kw_only=True)
class RatingOf(_Mark):
    """State: 1 to 5."""

    kind: ClassVar[str] = "rating"
    model: ClassVar[type[Rating] | type[Thumb]] = Rating
    field: ClassVar[str] = "value"


@dataclass(frozen=True, kw_only=True)
class ThumbOf(_Mark):
    """State: up or down."""

    kind: ClassVar[str] = "thumb"
    model: ClassVar[type[Rating] | type[Thumb]] = Thumb
    field: ClassVar[str] = "verdict"


@dataclass(frozen=True, kw_only=True)
class PreferenceOf:
    """State: the verdict on `left` and `right`, which are in the order of their ids, and whether it was blind."""

    kind: ClassVar[str] = "preference"
    example: Example
    left: int
    right: int
    reviewer: int

    @property
    def target(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right}

    def shares(self, *states: Any) -> bool:
        return False

    def read(self) -> Any:
        return self._rows().values("verdict", "blind").first()

    def write(self, state: Any) -> None:
        if state is None:
            self._rows().delete()
        elif not self._rows().update(**state):
            ids = {"left_id": self.left, "right_id": self.right, "reviewer_id": self.reviewer}
            Preference.objects.create(example=self.example, **ids, **state)

    def refresh(self) -> None:
        pass

    def _rows(self) -> Any:
        return Preference.objects.filter(left=self.left, right=self.right, reviewer=self.reviewer)


@dataclass(frozen=True, kw_only=True)
class TagsOf:
    """State: the example's tags."""

    kind: ClassVar[str] = "tag"
    example: Example

    @property
    def target(self) -> dict[str, Any]:
        return {}

    def shares(self, *states: Any) -> bool:
        return True

    def read(self) -> Any:
        return Example.objects.values_list("tags", flat=True).get(pk=self.example.pk)

    def write(self, state: Any) -> None:
        Example.objects.filter(pk=self.example.pk).update(tags=state)

    def refresh(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class _ReviewField:
    """A field of the reviewer's `Review`. No row is the same as one that is open and says nothing."""

    kind: ClassVar[str]
    empty: ClassVar[str]
    example: Example
    reviewer: int

    @property
    def target(self) -> dict[str, Any]:
        return {}

    def shares(self, *states: Any) -> bool:
        return Review.State.REJECTED in states

    def read(self) -> Any:
        state = self._rows().values_list(self.kind, flat=True).first()
        return self.empty if state is None else state

    def write(self, state: Any) -> None:
        if not self._rows().update(**{self.kind: state, "updated_at": Now()}):
            Review.objects.create(example=self.example, reviewer_id=self.reviewer, **{self.kind: state})

    def refresh(self) -> None:
        items.refresh_reviews([self.example.pk])

    def _rows(self) -> Any:
        return Review.objects.filter(example=self.example, reviewer=self.reviewer)


@dataclass(frozen=True, kw_only=True)
class NoteOf(_ReviewField):
    """State: the text, empty for none."""

    kind: ClassVar[str] = "note"
    empty: ClassVar[str] = ""

    def shares(self, *states: Any) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class StateOf(_ReviewField):
    """State: one of `Review.State`. Rejecting takes the example from everybody's exports."""

    kind: ClassVar[str] = "state"
    empty: ClassVar[str] = Review.State.OPEN.value


@dataclass(frozen=True, kw_only=True)
class EditOf:
    """State: the text that the author made of a model's answer. Its calls of tools stay, and so does what was thought
    before it, unless the answer was cut off or refused."""

    kind: ClassVar[str] = "edit"
    answer: Answer  # the model's
    author: int

    @property
    def example(self) -> Example:
        return self.answer.example

    @property
    def target(self) -> dict[str, Any]:
        return {"answer": self.answer.pk}

    def shares(self, *states: Any) -> bool:
        return False

    def read(self) -> Any:
        return self._rows().values_list("text", flat=True).first()

    def write(self, state: Any) -> None:
        """Raises `Conflict` for the removal of what somebody decided about: their decisions would go with it."""
        if state is None:
            self._check_free()
            self._rows().delete()
        elif not self._rows().update(text=state):
            origin = self.answer
            Answer.objects.create(
                column_id=origin.column_id, example=self.example, sample=origin.sample, text=state,
                reasoning="" if origin.incomplete else origin.reasoning, tool_calls=origin.tool_calls,
                edit_of=origin, author_id=self.author,
            )  # fmt: skip

    def refresh(self) -> None:
        items.refresh_answers(self.answer.column.run_id, [self.example.pk])

    def _rows(self) -> Any:
        return Answer.objects.filter(edit_of=self.answer, author=self.author)

    def _check_free(self) -> None:
        rows = self._rows().values("pk")
        compared = Preference.objects.filter(Q(left__in=rows) | Q(right__in=rows), example=self.example)
        for rowset, noun in (
            (Star.objects.filter(answer__in=rows), "the star"),
            (Rating.objects.filter(answer__in=rows), "its ratings"),
            (Thumb.objects.filter(answer__in=rows), "its thumbs"),
            (compared, "its preferences"),
        ):
            if rowset.exists():
                raise Conflict(f"This edit cannot be removed: somebody decided about it. Take away {noun} first.")


def of(change: Change) -> Decision:
    """What a change was about. Raises `Conflict` when an answer that it needs is gone."""
    _check_answers(change)
    example, reviewer = change.example, change.reviewer_id or 0
    if change.kind == StarOf.kind:
        return StarOf(example=example, reviewer=change.target["reviewer"])
    if change.kind == TagsOf.kind:
        return TagsOf(example=example)
    if change.kind == EditOf.kind:
        origin = Answer.objects.select_related("column", "example").get(pk=change.target["answer"])
        return EditOf(answer=origin, author=reviewer)
    personal = {kind.kind: kind for kind in (RatingOf, ThumbOf, PreferenceOf, NoteOf, StateOf)}
    return personal[change.kind](example=example, reviewer=reviewer, **change.target)


def _check_answers(change: Change) -> None:
    named = {change.target[key] for key in ("answer", "left", "right") if key in change.target}
    if change.kind == StarOf.kind and change.before is not None:
        named.add(change.before["answer"])
    if Answer.objects.filter(pk__in=named).count() < len(named):
        raise Conflict("This cannot be undone: the answer that it was about has been removed since.")
