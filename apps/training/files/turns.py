"""Messages of a training file, read as imports read them, and what is to be said of those that are learned.

Django-free.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from apps.conversations.conversation import Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages
from apps.training.files.exact import are_messages

NO_TEXT = ("image_url", "input_image", "input_audio", "audio", "file", "refusal", "video_url", "image", "video")
"""Types of a content's parts."""

Turn = dict[str, Any]
"""A `Message`, as JSON has it."""


def turns_of(value: Any, name: str, unused: set[str]) -> list[Turn]:
    """Raises `RowError`."""
    return value if are_messages(value) else dicts(read_messages(value, name, unused))


def dicts(messages: Messages) -> list[Turn]:
    return list(msgspec.to_builtins(messages))


def check_turns(turns: Sequence[Turn]) -> None:
    """And what each of them holds. Raises `RowError`."""
    first, open_ = "", set[str]()
    for at, turn in enumerate(turns):
        role = turn["role"]
        _check_content(turn, at)
        if role in ("system", "developer"):
            if first:
                message = (
                    "A system message comes after others: put it first, since most models know no other place for it."
                )
                raise RowError(message, "system_message_not_first")
        elif not first:
            first = role
            if role != "user":
                message = f"The first message after the system's has the role {role!r}: begin with a user message."
                raise RowError(message, "first_message_not_user")
        if role == "tool" or open_ or len(turn) > 2:
            _check_calls(turn, open_)


def _check_content(turn: Turn, at: int) -> None:
    content, role = turn["content"], turn["role"]
    if type(content) is str:
        if content or role not in ("user", "assistant") or turn.get("tool_calls"):
            return
        message = f"The 'content' of messages[{at}] is empty: write some text, or remove the example."
        raise RowError(message, "empty_content")
    if content is None:
        if not turn.get("tool_calls"):
            raise RowError(f"messages[{at}] has no 'content': write its text.", "missing_content")
        return
    for part in content:
        type_ = part.get("type")
        if type_ in NO_TEXT:
            message = f"messages[{at}] holds a part of the type {type_!r}: only text can be trained on, so remove the "
            raise RowError(f"{message}example.", "content_part_not_text")
        if type_ != "text" or not isinstance(part.get("text"), str):
            cure = 'write {"type": "text", "text": "…"}, or the text itself.'
            raise RowError(f"A part of messages[{at}] has a wrong shape: {cure}", "invalid_content_part")
    if not any(part["text"] for part in content) and role in ("user", "assistant") and not turn.get("tool_calls"):
        message = f"The 'content' of messages[{at}] is empty: write some text, or remove the example."
        raise RowError(message, "empty_content")


def _check_calls(turn: Turn, open_: set[str]) -> None:
    """Each call is answered once, right after it, by its id; a call at the very end is what is learned."""
    if turn["role"] == "tool":
        if (id_ := turn["tool_call_id"]) not in open_:
            message = f"A tool message answers {id_[:40]!r}, which no open call has: correct its id."
            raise RowError(message, "unknown_tool_call_id")
        open_.remove(id_)
    elif open_:
        message = f"The tool call {min(open_)[:40]!r} is not answered: add a tool message with its 'tool_call_id'."
        raise RowError(message, "tool_call_not_answered")
    ids = [call["id"] for call in turn.get("tool_calls", ())]
    open_.update(ids)
    if len(open_) < len(ids):
        raise RowError("Two of its 'tool_calls' have the same id: give each its own.", "tool_call_id_twice")


def check_answers(turns: Sequence[Turn]) -> None:
    """That there is something to learn. Raises `RowError`."""
    if turns[-1]["role"] == "assistant" and turns[-1].get("weight") != 0:
        return
    weights = [turn.get("weight") for turn in turns if turn["role"] == "assistant"]
    if not weights:
        raise RowError("No message has the role 'assistant': add the answer to learn.", "no_assistant_message")
    if turns[-1]["role"] != "assistant":
        message = f"Its last message has the role {turns[-1]['role']!r}: end with the assistant's answer."
        raise RowError(message, "last_message_not_assistant")
    if all(weight == 0 for weight in weights):
        message = "Every assistant message has the weight 0, so nothing is learned: give one the weight 1."
        raise RowError(message, "nothing_to_learn")


def check_question(turns: Sequence[Turn], where: str, unused: set[str]) -> None:
    """That it ends with what an answer answers to. Raises `RowError`."""
    for turn in turns:
        if turn.pop("weight", None) is not None:
            unused.add("messages[].weight")
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        role = turns[-1]["role"] if turns else "nothing"
        message = f"{where} ends with the role {role!r}: end with what the answers answer to."
        raise RowError(message, "input_not_a_question")
