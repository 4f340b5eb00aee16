"""What happened to an example, in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Func, TextField
from django.db.models.functions import Left

from apps.datasets.models import Answer, Change

SHOWN = 100  # changes, the latest first
TEXT_CHARACTERS = 200
READ_CHARACTERS = 4_000  # of a state; edits are as long as answers
TEXTS = ("rating", "thumb", "note", "state", "edit")  # whose states are no JSON objects or lists
NOUNS = {
    "star": "gold star", "rating": "rating", "thumb": "thumb", "preference": "preference", "tag": "tags",
    "note": "note", "state": "state", "edit": "edit",
}  # fmt: skip
VERDICTS = {"left": "the first is better", "right": "the second is better", "tie": "a tie", "neither": "both bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    who: str
    what: str
    about: str  # labels of columns
    before: str
    after: str
    at: datetime
    undone_at: datetime | None


def history_of(example: int) -> list[Event]:
    rows = Change.objects.filter(example=example).select_related("reviewer").order_by("-pk")
    changes = list(rows.defer("before", "after").annotate(old=_start("before"), new=_start("after"))[:SHOWN])
    for change in changes:
        change.before, change.after = _state(change.kind, change.old), _state(change.kind, change.new)
    ids = {each for change in changes for each in _answers(change)}
    labels = dict(Answer.objects.filter(pk__in=ids).values_list("pk", "column__label"))
    return [
        Event(
            who=change.reviewer.username if change.reviewer else "somebody who left",
            what=NOUNS.get(change.kind, change.kind), about=_about(change, labels),
            before=_said(change.kind, change.before, labels), after=_said(change.kind, change.after, labels),
            at=change.at, undone_at=change.undone_at,
        )
        for change in changes
    ]  # fmt: skip


def _start(field: str) -> Left:
    """Of a state, as text: a text itself, anything else as JSON."""
    return Left(Func(field, template="(%(expressions)s #>> '{}')", output_field=TextField()), READ_CHARACTERS)


def _state(kind: str, text: str | None) -> Any:
    return text if text is None or kind in TEXTS else json.loads(text)


def _answers(change: Change) -> list[int]:
    stars = [state["answer"] for state in (change.before, change.after) if change.kind == "star" and state]
    return [*stars, *(change.target[key] for key in ("answer", "left", "right") if key in change.target)]


def _about(change: Change, labels: dict[int, str]) -> str:
    named = [
        labels.get(change.target[key], "a removed answer")
        for key in ("answer", "left", "right")
        if key in change.target
    ]
    return " and ".join(named)


def _said(kind: str, state: Any, labels: dict[int, str]) -> str:
    if state in (None, "", []):
        return "none"
    if kind == "star":
        return labels.get(state["answer"], "a removed answer")
    if kind == "preference":
        return VERDICTS.get(state["verdict"], "") + (", blind" if state.get("blind") else "")
    if kind == "tag":
        return ", ".join(state)
    text = str(state)
    return text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS] + "…"
