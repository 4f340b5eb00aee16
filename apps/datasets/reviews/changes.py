"""The audit history, as people and programs read it: answers and reviewers by their names."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F, Func, QuerySet, TextField

from apps.datasets.models import Change

TEXT_CHARACTERS = 2_000  # of a note or an edit
TEXTS = ("thumb", "note", "edit", "state")


class Start(Func):
    """The beginning of a JSON value's text; of a JSON string, of the string itself."""

    template = f"left((%(expressions)s) #>> '{{}}', {TEXT_CHARACTERS})"
    output_field = TextField()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    id: int
    example: int  # its number
    reviewer: str | None
    kind: str
    target: dict[str, Any]
    before: Any
    after: Any
    at: datetime
    undone_at: datetime | None


def read(changes: QuerySet[Change]) -> list[Entry]:
    """In the order of `changes`; two queries, and no long text is loaded."""
    rows = list(
        changes.values(
            "pk", "kind", "target", "at", "undone_at", number=F("example__number"), name=F("reviewer__username"),
            old=Start("before"), new=Start("after"),
        )
    )  # fmt: skip
    names = _usernames(rows)
    return [
        Entry(
            id=row["pk"], example=row["number"], reviewer=row["name"], kind=row["kind"],
            target=_named(row["target"], names), before=_state(row["kind"], row["old"], names),
            after=_state(row["kind"], row["new"], names), at=row["at"], undone_at=row["undone_at"],
        )
        for row in rows
    ]  # fmt: skip


def _state(kind: str, text: str | None, names: dict[int, str]) -> Any:
    if text is None or kind in TEXTS:
        return text
    try:
        state = json.loads(text)
    except ValueError:  # it was cut
        return text
    return _named(state, names) if isinstance(state, dict) else state


def _named(state: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    named: dict[str, Any] = {
        key: f"answer_{value}" if key in ("answer", "left", "right") else value for key, value in state.items()
    }
    if "reviewer" in state:
        named["reviewer"] = names.get(state["reviewer"])
    return named


def _usernames(rows: Iterable[Any]) -> dict[int, str]:
    """Of those that stars are about."""
    stars = [row for row in rows if row["kind"] == "star"]
    states = [json.loads(text) for row in stars for text in (row["old"], row["new"]) if text]
    ids = {state["reviewer"] for state in (*states, *(row["target"] for row in stars)) if state["reviewer"]}
    return dict(User.objects.filter(pk__in=ids).values_list("pk", "username")) if ids else {}
