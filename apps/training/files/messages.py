"""Messages of a training file: their roles, texts, weights and order. Django-free."""

from collections.abc import Mapping
from typing import Any

from apps.training.files.json_lines import BadRow, check_keys, kind
from apps.training.files.tool_calls import calls_of, check_name

OF_MESSAGES = {"role", "content", "name", "weight", "tool_calls", "tool_call_id"}
NO_TEXT = ("image_url", "input_image", "input_audio", "audio", "file", "refusal")
"""Types of a content's parts."""

Message = dict[str, Any]


def checked_all(value: Any, *, weights: bool) -> list[Message]:
    if not isinstance(value, list):
        raise BadRow("messages_not_a_list", f"Its 'messages' are {kind(value)}: write a list of messages.")
    if not value:
        raise BadRow("empty_messages", "Its 'messages' are empty: write at least a question and an answer.")
    messages = [checked(message, f"messages[{at}]", weights=weights) for at, message in enumerate(value)]
    _check_order(messages)
    _check_calls(messages)
    return messages


def _check_order(messages: list[Message]) -> None:
    roles = [message["role"] for message in messages]
    turns = [role for role in roles if role != "system"]
    if turns and turns[0] != "user":
        message = f"The first message after the system's has the role {turns[0]!r}: begin with a user message."
        raise BadRow("first_message_not_user", message)
    if "system" in roles[len(roles) - len(turns) :]:
        message = "A system message comes after others: put it first, since most models know no other place for it."
        raise BadRow("system_message_not_first", message)


def _check_calls(messages: list[Message]) -> None:
    """Each call is answered once, right after it, by its id; a call at the very end is what is learned."""
    open_: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_:
                text = (
                    f"A tool message answers {message['tool_call_id'][:40]!r}, which no open call has: correct its id."
                )
                raise BadRow("unknown_tool_call_id", text)
            open_.remove(message["tool_call_id"])
        elif open_:
            text = f"The tool call {min(open_)[:40]!r} is not answered: add a tool message with its 'tool_call_id'."
            raise BadRow("tool_call_not_answered", text)
        open_ |= {call["id"] for call in message.get("tool_calls", ())}


def checked(value: Any, where: str, *, weights: bool) -> Message:
    if not isinstance(value, dict):
        raise BadRow("message_not_an_object", f"{where} is {kind(value)}: write an object with 'role' and 'content'.")
    given = {key: entry for key, entry in value.items() if entry is not None}
    if "function_call" in given:
        raise BadRow("functions_deprecated", f"{where} has a 'function_call', which is outdated: use 'tool_calls'.")
    check_keys(given, OF_MESSAGES, where)
    role = _role(given, where)
    made: Message = {"role": role, "content": _content(given, role, where)}
    if "name" in given:
        made["name"] = check_name(given["name"], "invalid_name", f"The 'name' of {where}")
    if "weight" in given:
        made["weight"] = _weight(given["weight"], role, where, allowed=weights)
    if "tool_calls" in given:
        made["tool_calls"] = calls_of(given["tool_calls"], role, where)
    return made | _answered_call(given, role, where)


def _role(given: Mapping[str, Any], where: str) -> str:
    if "role" not in given:
        raise BadRow("missing_role", f"{where} has no 'role': write system, user, assistant or tool.")
    role = given["role"]
    if role == "function":
        raise BadRow("functions_deprecated", f"{where} has the role 'function', which is outdated: use 'tool'.")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise BadRow("unknown_role", f"{where} has the role {str(role)[:40]!r}: write system, user, assistant or tool.")
    return "system" if role == "developer" else str(role)


def _content(given: Mapping[str, Any], role: str, where: str) -> str:
    if "content" not in given:
        if role == "assistant" and given.get("tool_calls"):
            return ""
        raise BadRow("missing_content", f"{where} has no 'content': write its text.")
    content = given["content"]
    text = _joined(content, where) if isinstance(content, list) else content
    if not isinstance(text, str):
        raise BadRow("content_not_text", f"The 'content' of {where} is {kind(content)}: write it as text.")
    if not text and role in ("user", "assistant") and not given.get("tool_calls"):
        raise BadRow("empty_content", f"The 'content' of {where} is empty: write some text, or remove the example.")
    return text


def _joined(parts: list[Any], where: str) -> str:
    """The texts of parts. Images and sound cannot be learned from here."""
    for part in parts:
        type_ = part.get("type") if isinstance(part, dict) else None
        if type_ in NO_TEXT:
            message = f"{where} holds a part of the type {type_!r}: only text can be trained on, so remove the example."
            raise BadRow("content_part_not_text", message)
        if type_ != "text" or not isinstance(part.get("text"), str):
            message = f'A part of {where} has a wrong shape: write {{"type": "text", "text": "…"}}, or the text itself.'
            raise BadRow("invalid_content_part", message)
    return "".join(part["text"] for part in parts)


def _weight(weight: Any, role: str, where: str, *, allowed: bool) -> int:
    if not allowed:
        raise BadRow("weight_not_allowed", f"{where} has a 'weight', which preference pairs do not know: remove it.")
    if role != "assistant":
        raise BadRow("weight_not_assistant", f"{where} is the {role}'s and has a 'weight': only the assistant's may.")
    if type(weight) is not int or weight not in (0, 1):
        raise BadRow("invalid_weight", f"The 'weight' of {where} is {str(weight)[:40]!r}: write 0 or 1.")
    return weight


def _answered_call(given: Mapping[str, Any], role: str, where: str) -> Message:
    if role != "tool":
        if "tool_call_id" in given:
            message = f"{where} is the {role}'s and has a 'tool_call_id': only tool messages have one, so remove it."
            raise BadRow("tool_call_id_not_tool", message)
        return {}
    uid = given.get("tool_call_id")
    if not isinstance(uid, str) or not uid:
        message = f"{where} is a tool's and has no 'tool_call_id': write the id of the call that it answers."
        raise BadRow("missing_tool_call_id", message)
    return {"tool_call_id": uid}
