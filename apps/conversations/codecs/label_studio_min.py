"""Rows of Label Studio's JSON-MIN, CSV and TSV exports: https://labelstud.io/guide/export#JSON-MIN.

A row is an annotation: the task's data and what each control of the project says, side by side, each under its own
name. Lists and objects are JSON text in CSV and TSV.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from apps.conversations import json_text
from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import (
    BESIDE,
    SYSTEMS,
    asked,
    assistant,
    beside,
    system_of,
    text,
    user,
    with_system,
)
from apps.conversations.codecs.label_studio import ANSWERS, PAIRS, QUESTIONS, REJECTED_ALONE, written
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

ABOUT = ("annotator", "annotation_id", "lead_time")
"""What every row has of its annotation."""
TASK = "_data_"
"""Before the name of a task's column in CSV, where a control has the same."""
CHOICE = "preference"


def _read(values: Values, unused: set[str]) -> Conversation:
    chosen: Messages = ()
    rejected: Messages = ()
    compared: tuple[str, ...] = ()
    if selected := next(_selected(values), ""):
        compared = left, right = _sides(values)
        better, worse = (left, right) if selected == "left" else (right, left)
        chosen, rejected = (assistant(text(values, name, needed=True)) for name in (better, worse))
    unused.update(name for pair in PAIRS for name in pair if name not in compared and values.get(name))
    answers = {name: written(_plain(values[name])) for name in ANSWERS if values.get(name)}
    if answer := next(filter(None, answers.values()), ""):
        chosen = assistant(answer)
    unused.update(name for name, said in answers.items() if said != answer)
    return asked(
        Conversation(messages=_asks(values, unused), chosen=chosen, rejected=rejected, **beside(values, unused))
    )


def _asks(values: Values, unused: set[str]) -> Messages:
    if messages := _plain(_task(values, "messages")):
        return with_system(read_messages(messages, "messages", unused), values, unused)
    name = next((name for name in QUESTIONS if _task(values, name) is not None), QUESTIONS[0])
    return user(text({name: _task(values, name)}, name, needed=True), system_of(values))


def _task(values: Values, name: str) -> Any:
    """A column of the task, not of a control that has its name."""
    return values.get(f"{TASK}{name}", values.get(name))


def _sides(values: Values) -> tuple[str, str]:
    """The columns that were compared. Raises `RowError`."""
    found = [pair for pair in PAIRS if all(isinstance(values.get(name), str) for name in pair)]
    if len(found) == 1:
        return found[0]
    names = ", or ".join(" and ".join(pair) for pair in PAIRS)
    message = f"It cannot be told which two answers were compared: name their columns {names}."
    raise RowError(message, "unknown_sides")


def _selected(values: Values) -> Iterator[str]:
    """What controls of the kind Pairwise say."""
    for value in map(_plain, values.values()):
        for each in value if isinstance(value, list) else ():
            if isinstance(each, dict) and each.get("selected") in ("left", "right"):
                yield each["selected"]


def _plain(value: Any) -> Any:
    """A list or an object, also where it is JSON text; any other value as it is. Raises `RowError`."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json_text.decoded(value.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return value  # a text that begins so


def _write(conversation: Conversation) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": conversation.messages, **holding.beside(conversation)}
    if conversation.rejected and not conversation.chosen:
        raise CannotHold(REJECTED_ALONE)
    if conversation.rejected:
        sides = (conversation.chosen, conversation.rejected)
        row.update((name, holding.text(holding.one(side))) for name, side in zip(PAIRS[0], sides, strict=True))
        row[CHOICE] = [{"selected": "left"}]
    elif conversation.chosen:
        row[ANSWERS[0]] = [{"text": [holding.text(holding.one(conversation.chosen))]}]
    return row | dict.fromkeys(ABOUT)


CODEC = Codec(
    name="label_studio_min",
    title="Label Studio annotations",
    columns={
        "messages": "messages",
        **dict.fromkeys(QUESTIONS, "question"),
        **dict.fromkeys(SYSTEMS, "system message"),
        **dict.fromkeys((name for pair in PAIRS for name in pair), "an answer"),
        **dict.fromkeys(ANSWERS, "chosen answer"),
        CHOICE: "which answer is chosen",
        **dict.fromkeys(ABOUT, "kept as metadata"),
        **BESIDE,
    },
    fits=lambda row: row.keys() >= {*ABOUT},
    read=_read,
    write=_write,
)
