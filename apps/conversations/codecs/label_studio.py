"""Tasks of Label Studio's JSON export: https://labelstud.io/guide/export#Raw-JSON-format-of-completed-tasks.

The task's `data` says the question, and perhaps two answers; an annotation says which is better (Pairwise), or writes
the answer (TextArea).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import asked, assistant, beside, text, user
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

QUESTIONS = ("prompt", "question", "instruction", "text")
ANSWERS = ("response_a", "response_b")
OTHERS = "annotations[] beside the one that is used"
REJECTED_ALONE = "a rejected answer alone"


def _read(values: Values, unused: set[str]) -> Conversation:
    data = values.get("data")
    if not isinstance(data, dict):
        raise RowError("'data' of a task must be an object.", "invalid_data")
    chosen: Messages = ()
    rejected: Messages = ()
    for kind, value in _results(values.get("annotations"), unused):
        if kind == "pairwise" and value.get("selected") in ("left", "right"):
            better, worse = ANSWERS if value["selected"] == "left" else ANSWERS[::-1]
            chosen = chosen or assistant(text(data, better, needed=True))
            rejected = assistant(text(data, worse, needed=True))
        elif kind == "textarea" and (written := _written(value)):
            chosen = assistant(written)
        else:
            unused.add(f"annotations[].result[] of the type {kind[:40]!r}")
    if not rejected:
        unused.update(f"data.{name}" for name in ANSWERS if data.get(name) is not None)
    return asked(
        Conversation(messages=_asks(data, unused), chosen=chosen, rejected=rejected, **beside(data, unused, "data."))
    )


def _asks(data: Values, unused: set[str]) -> Messages:
    if data.get("messages") is not None:
        return read_messages(data["messages"], "data.messages", unused)
    name = next((name for name in QUESTIONS if data.get(name) is not None), QUESTIONS[0])
    return user(text(data, name, needed=True), text(data, "system"))


def _results(annotations: Any, unused: set[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(type, value) of the annotation that is the ground truth, or of the first that was not cancelled."""
    if annotations is not None and not _are_objects(annotations):
        raise RowError("'annotations' of a task must be a list of objects.", "invalid_annotations")
    made = [each for each in annotations or [] if not each.get("was_cancelled")]
    made.sort(key=lambda each: each.get("ground_truth") is not True)
    if len(made) > 1:
        unused.add(OTHERS)
    results = made[0].get("result") if made else []
    if not _are_objects(results) or not all(isinstance(each.get("value"), dict) for each in results):
        raise RowError(
            "The 'result' of an annotation must be a list of objects, each with a 'value'.", "invalid_result"
        )
    for each in results:
        yield str(each.get("type")), each["value"]


def _are_objects(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, dict) for each in values)


def _written(value: Mapping[str, Any]) -> str:
    said = value.get("text")
    texts: list[Any] = said if isinstance(said, list) else [said]
    return "\n".join(texts) if all(isinstance(each, str) for each in texts) else ""


def _write(conversation: Conversation) -> dict[str, Any]:
    data: dict[str, Any] = {"messages": conversation.messages, **holding.beside(conversation)}
    results: list[dict[str, Any]] = []
    if conversation.rejected and not conversation.chosen:
        raise CannotHold(REJECTED_ALONE)
    if conversation.rejected:
        sides = (conversation.chosen, conversation.rejected)
        data.update((name, holding.text(holding.one(side))) for name, side in zip(ANSWERS, sides, strict=True))
        results.append({"type": "pairwise", "value": {"selected": "left"}})
    elif conversation.chosen:
        results.append({"type": "textarea", "value": {"text": [holding.text(holding.one(conversation.chosen))]}})
    return {"data": data, "annotations": [{"result": results, "ground_truth": True, "was_cancelled": False}]}


CODEC = Codec(
    name="label_studio",
    title="Label Studio tasks",
    columns={"data": "messages, answers", "annotations": "which answer is chosen", "id": "key"},
    fits=lambda row: isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list),
    read=_read,
    write=_write,
)
