"""What the review page's keys ask for, as JSON: each becomes one call of a service.

Rights are the view's to check. Every verb says in a sentence what it did, which the page shows beside "Undo".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from apps.core.errors import Conflict, DomainError
from apps.datasets.admin.asked import Outdated
from apps.datasets.models import Answer, Change, Example, Run
from apps.datasets.reviews import locks, matrix, pairs
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.filters import Filters
from apps.datasets.reviews.rows import Row

ANSWER = 2**63 - 1  # PostgreSQL's largest id


@dataclass(frozen=True, slots=True)
class Done:
    number: int
    sentence: str
    change: Change | None = None
    extra: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Its accessors raise `DomainError` for what is not there, or nonsense."""

    run: Run
    reviewer: User
    body: dict[str, Any]

    def number(self, name: str, *, most: int = ANSWER) -> int:
        value = self.body.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise DomainError(f"'{name}' is a whole number.", param=name)
        return value

    def text(self, name: str) -> str:
        value = self.body.get(name)
        if not isinstance(value, str):
            raise DomainError(f"'{name}' is a text.", param=name)
        return value

    def answer(self, name: str = "answer") -> Answer:
        rows = Answer.objects.select_related(
            "example__dataset", "column", "edit_of__column", "edit_of__example__dataset"
        )
        found = rows.filter(pk=self.number(name), column__run=self.run).first()
        if found is None:
            raise Conflict("This answer is not there any more. Load the page again.")
        return found

    def example(self) -> Example:
        rows = Example.objects.select_related("dataset").filter(items__run=self.run)
        found = rows.filter(number=self.number("number", most=2**31 - 1)).first()
        if found is None:
            raise Conflict("This example is not in the run any more. Load the page again.")
        return found


def _star(asked: Asked) -> Done:
    answer = asked.answer()
    change = reviews.star(answer=answer, reviewer=asked.reviewer, accept=asked.body.get("accept") is True)
    return Done(answer.example.number, f"Gold star for {_name(answer)}.", change)


def _unstar(asked: Asked) -> Done:
    example = asked.example()
    return Done(example.number, "The star is taken away.", reviews.unstar(example=example, reviewer=asked.reviewer))


def _rate(asked: Asked) -> Done:
    answer = asked.answer()
    value = None if asked.body.get("value") is None else asked.number("value", most=9)
    change = reviews.rate(answer=answer, reviewer=asked.reviewer, value=value)
    sentence = f"{_name(answer)} is rated {value}." if value else f"The rating of {_name(answer)} is taken away."
    return Done(answer.example.number, sentence, change)


def _thumb(asked: Asked) -> Done:
    answer = asked.answer()
    verdict = None if asked.body.get("verdict") is None else asked.text("verdict")
    accept = asked.body.get("accept") is True
    change = reviews.thumb(answer=answer, reviewer=asked.reviewer, verdict=verdict, accept=accept)
    sentence = f"Thumb {verdict} for {_name(answer)}." if verdict else f"The thumb of {_name(answer)} is taken away."
    return Done(answer.example.number, sentence, change)


def _prefer(asked: Asked) -> Done:
    left, right = asked.answer("left"), asked.answer("right")
    verdict = None if asked.body.get("verdict") is None else asked.text("verdict")
    change = reviews.prefer(left=left, right=right, reviewer=asked.reviewer, verdict=verdict, blind=False)
    return Done(left.example.number, _verdict_sentence(_name(left), _name(right), verdict), change)


def _vote(asked: Asked) -> Done:
    """Blind: the sides are worked out again here, since the page does not know whose answers it showed."""
    example = asked.example()
    row = row_of(asked.run, example.number, reviewer=asked.reviewer)
    pair = pairs.check_mark(pairs.pair_of(row, asked.reviewer) if row else None, asked.text("mark"))
    answers = Answer.objects.select_related("example__dataset", "column").in_bulk([pair.left.answer, pair.right.answer])
    left, right = answers[pair.left.answer], answers[pair.right.answer]
    verdict = asked.text("verdict")
    change = reviews.prefer(left=left, right=right, reviewer=asked.reviewer, verdict=verdict, blind=True)
    return Done(example.number, _verdict_sentence(_name(left), _name(right), verdict), change)


def _tag(asked: Asked) -> Done:
    tags = asked.body.get("tags")
    if not isinstance(tags, list) or not all(isinstance(each, str) for each in tags):
        raise DomainError("'tags' is a list of texts.", param="tags")
    example = asked.example()
    return Done(example.number, "Tags saved.", reviews.tag(example=example, reviewer=asked.reviewer, tags=tags))


def _note(asked: Asked) -> Done:
    example = asked.example()
    change = reviews.note(example=example, reviewer=asked.reviewer, text=asked.text("text"))
    return Done(example.number, "Note saved." if asked.text("text").strip() else "The note is taken away.", change)


def _state(asked: Asked) -> Done:
    example, state = asked.example(), asked.text("state")
    change = reviews.set_state(example=example, reviewer=asked.reviewer, state=state)
    said = {"done": "done", "rejected": "rejected: exports leave it out", "open": "open again"}
    return Done(example.number, f"Example {example.number} is {said[state]}.", change)


def _edit(asked: Asked) -> Done:
    """What is saved was made of the text that `base` stands for; another one meanwhile is a conflict."""
    answer = asked.answer()
    text = None if asked.body.get("text") is None else asked.text("text")
    with transaction.atomic():
        Example.objects.select_for_update(no_key=True).filter(pk=answer.example_id).first()
        source, base = edited(answer, asked.reviewer)
        if asked.text("base") != base:
            raise Outdated(source, base)
        change = reviews.edit(answer=answer, reviewer=asked.reviewer, text=text)
    sentence = f"Your edit of {_name(answer)} is {'removed' if text is None else 'saved'}."
    return Done(answer.example.number, sentence, change)


def _undo(asked: Asked) -> Done:
    wanted = None if asked.body.get("change") is None else asked.number("change")
    change = reviews.undo(reviewer=asked.reviewer, dataset=asked.run.dataset, change=wanted)
    if change is None:
        raise Conflict("There is nothing of yours left to undo.")
    return Done(change.example.number, f"Undone: the {change.kind} of example {change.example.number}.")


def _lock(asked: Asked) -> Done:
    example = asked.example()
    locks.take(example=example, reviewer=asked.reviewer)
    return Done(example.number, "")


def _release(asked: Asked) -> Done:
    example = asked.example()
    locks.release(example=example, reviewer=asked.reviewer)
    return Done(example.number, "")


VERBS: dict[str, Callable[[Asked], Done]] = {
    "star": _star, "unstar": _unstar, "rate": _rate, "thumb": _thumb, "prefer": _prefer, "vote": _vote, "tag": _tag,
    "note": _note, "state": _state, "edit": _edit, "undo": _undo, "lock": _lock, "release": _release,
}  # fmt: skip
QUIET = ("lock", "release")  # they change nothing that a row shows to their own reviewer


def row_of(run: Run, number: int, *, reviewer: User, **more: Any) -> Row | None:
    """One row as a page has it."""
    page = matrix.read_page(run, filters=Filters(), after=number - 1, limit=1, reviewer=reviewer, **more)
    return next((row for row in page.rows if row.number == number), None)


def edited(answer: Answer, reviewer: User) -> tuple[str, str]:
    """The text that the reviewer would go on from (their own edit, or else the answer itself), and its `base`."""
    own = Answer.objects.filter(edit_of=answer.edit_of_id or answer.pk, author=reviewer).values_list("text", flat=True)
    fresh = Answer.objects.values_list("text", flat=True).get(pk=answer.pk)
    mine = own.first()
    digest = hashlib.blake2b(f"{mine is not None}\0{mine or ''}\0{fresh}".encode(), digest_size=16)
    return fresh if mine is None else mine, digest.hexdigest()


def _name(answer: Answer) -> str:
    return f"{answer.column.label}, edited" if answer.edit_of_id else answer.column.label


def _verdict_sentence(left: str, right: str, verdict: str | None) -> str:
    if verdict is None:
        return "The preference is taken away."
    said = {"left": f"{left} is better than {right}.", "right": f"{right} is better than {left}."}
    both = "are as good" if verdict == "tie" else "are both bad"
    return said.get(verdict, f"{left} and {right} {both}.")
