"""Tasks of Label Studio's JSON export: https://labelstud.io/guide/export#Raw-JSON-format-of-completed-tasks.

The task's `data` says the question, and perhaps two answers; an annotation says which is better (Pairwise), or writes
the answer (TextArea).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import asked, assistant, beside, system_of, text, user, with_system
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

QUESTIONS = ("prompt", "question", "instruction", "text")
PAIRS = (
    ("response_a", "response_b"), ("answer_a", "answer_b"), ("response1", "response2"), ("answer1", "answer2"),
    ("response_1", "response_2"), ("answer_1", "answer_2"),
)  # fmt: skip
"""What the two answers of a task are called that people compare."""
ANSWERS = (
    "answer", "response", "reference", "output", "completion", "edit", "edited", "correction", "corrected", "gold",
)  # fmt: skip
"""What controls are called in which people write the answer."""
COMMENTS = ("notes", "note", "comment", "comments", "feedback", "reason", "explanation", "justification")
"""And those in which they write about it."""
OTHERS = "annotations[] beside the one that is used"
TASK = {"id", "data", "meta", "predictions"}
"""Keys of a task that nobody has annotated."""
REJECTED_ALONE = "a rejected answer alone"


def _read(values: Values, unused: set[str]) -> Conversation:
    data = values.get("data")
    if not isinstance(data, dict):
        raise RowError("'data' of a task must be an object.", "invalid_data")
    chosen: Messages = ()
    rejected: Messages = ()
    texts: list[tuple[str, str]] = []
    pair = next((pair for pair in PAIRS if all(data.get(name) is not None for name in pair)), PAIRS[0])
    for kind, name, value in _results(_annotations(values), unused):
        if kind == "pairwise" and value.get("selected") in ("left", "right"):
            better, worse = pair if value["selected"] == "left" else pair[::-1]
            chosen, rejected = (assistant(text(data, side, needed=True)) for side in (better, worse))
        elif kind == "textarea" and name not in COMMENTS and (said := written(value)):
            texts.append((name, said))
        else:
            unused.add(f"annotations[].result[] of the type {kind[:40]!r}")
    if texts:
        chosen = assistant(_answer(texts, unused))
    if not rejected:
        unused.update(f"data.{name}" for name in pair if data.get(name) is not None)
    return asked(
        Conversation(messages=_asks(data, unused), chosen=chosen, rejected=rejected, **beside(data, unused, "data."))
    )


def _annotations(values: Values) -> Any:
    """Older versions call them completions."""
    return values.get("completions") if values.get("annotations") is None else values["annotations"]


def _answer(texts: list[tuple[str, str]], unused: set[str]) -> str:
    """Of the texts of an annotation, each with its control's name: the one in which an answer belongs, or the first."""
    answer = next((text for name, text in texts if name in ANSWERS), texts[0][1])
    unused.update(f"annotations[].result[] of {name[:40]!r}" for name, text in texts if text != answer)
    return answer


def _asks(data: Values, unused: set[str]) -> Messages:
    if data.get("messages") is not None:
        return with_system(read_messages(data["messages"], "data.messages", unused), data, unused)
    name = next((name for name in QUESTIONS if data.get(name) is not None), QUESTIONS[0])
    return user(text(data, name, needed=True), system_of(data))


def _results(annotations: Any, unused: set[str]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(type, control, value) of the annotation that is the ground truth, or of the first that was not cancelled."""
    if annotations is not None and not _are_objects(annotations):
        raise RowError("'annotations' of a task must be a list of objects.", "invalid_annotations")
    made = [each for each in annotations or [] if not each.get("was_cancelled")]
    made.sort(key=lambda each: each.get("ground_truth") is not True)
    if len(made) > 1:
        unused.add(OTHERS)
    results = (made[0].get("result") or []) if made else []
    if not _are_objects(results) or not all(isinstance(each.get("value"), dict) for each in results):
        raise RowError(
            "The 'result' of an annotation must be a list of objects, each with a 'value'.", "invalid_result"
        )
    for each in results:
        yield str(each.get("type")), str(each.get("from_name")), each["value"]


def _are_objects(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, dict) for each in values)


def written(value: Any) -> str:
    """What a TextArea says: text, an object whose "text" it is, or a list of these, a line each."""
    if isinstance(value, Mapping):
        return written(value.get("text"))
    if isinstance(value, list):
        lines = [written(each) for each in value]
        return "\n".join(lines) if all(lines) else ""
    return value if isinstance(value, str) else ""


def _write(conversation: Conversation) -> dict[str, Any]:
    data: dict[str, Any] = {"messages": conversation.messages, **holding.beside(conversation)}
    results: list[dict[str, Any]] = []
    if conversation.rejected and not conversation.chosen:
        raise CannotHold(REJECTED_ALONE)
    if conversation.rejected:
        sides = (conversation.chosen, conversation.rejected)
        data.update((name, holding.text(holding.one(side))) for name, side in zip(PAIRS[0], sides, strict=True))
        results.append({"type": "pairwise", "value": {"selected": "left"}})
    elif conversation.chosen:
        results.append({"type": "textarea", "value": {"text": [holding.text(holding.one(conversation.chosen))]}})
    return {"data": data, "annotations": [{"result": results, "ground_truth": True, "was_cancelled": False}]}


CODEC = Codec(
    name="label_studio",
    title="Label Studio tasks",
    columns={
        "data": "messages, answers",
        "annotations": "which answer is chosen",
        "completions": "which answer is chosen",
        "id": "key",
    },
    fits=lambda row: isinstance(row.get("data"), dict) and (row.keys() <= TASK or isinstance(_annotations(row), list)),
    read=_read,
    write=_write,
)
