"""Messages as people write them, read into `Message`.

Most rows are exactly OpenAI's and are read at once; the rest is looked at key by key. What cannot be held raises
`RowError`; keys that are not used are named in `unused`, so that nobody loses them without a word.
"""

from typing import Any

from apps.conversations.conversation import Message, Messages, Role, ToolCall
from apps.conversations.errors import RowError, kind
from apps.conversations.parts import Parts, joined, read_parts
from apps.conversations.tools import read_calls
from apps.conversations.weights import KEYS as WEIGHTS
from apps.conversations.weights import read_weight, wanted

ROLES: dict[str, Role] = {
    "system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
KNOWN = frozenset((
    "role", "content", "reasoning_content", "reasoning", "thinking", "tool_calls", "function_call", "tool_call_id",
    "name", *WEIGHTS,
))  # fmt: skip
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
NO_PARTS = Parts()
WRITE_ROLE = "write system, user, assistant or tool."


def read_messages(value: Any, where: str, unused: set[str]) -> Messages:
    """`where` names the list in sentences, "messages" for example. `unused` gets paths like "messages[].score".

    Raises `RowError`.
    """
    if not isinstance(value, list):
        message = f"Its {where!r} must be a list of messages, and is {kind(value)}: write a list of messages."
        raise RowError(message, "messages_not_a_list")
    if not value:
        raise RowError(
            f"Its {where!r} must be a list of messages, and is empty: write at least a question.", "empty_messages"
        )
    reader = _Reader(where, unused)
    return tuple(reader.read(entry, at) for at, entry in enumerate(value))


def read_answer(value: Any, where: str, unused: set[str]) -> Messages:
    """One side of a pair: text, a message, or messages that end with the assistant's. Raises `RowError`."""
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    answer = read_messages([value] if isinstance(value, dict) else value, where, unused)
    if answer[-1].role != "assistant":
        message = f"The last message in {where!r} must be the assistant's: end with the answer."
        raise RowError(message, "answer_not_assistant")
    return answer


class _Reader:
    """Of one list: it gives ids to calls that have none, and the answers to them the same."""

    def __init__(self, name: str, unused: set[str]) -> None:
        self._name, self._unused = name, unused
        self._where = name
        """The message that is read, in sentences."""
        self._calls = 0
        self._open: list[ToolCall] = []
        """Calls that no tool's message has answered yet."""

    def read(self, entry: Any, at: int) -> Message:
        self._where = f"{self._name}[{at}]"
        role = self._role(entry)
        given = {key: value for key, value in entry.items() if value is not None}
        if unknown := given.keys() - KNOWN:
            self._unused.update(f"{self._name}[].{key}" for key in unknown)
        parts = self._parts(given.get("content"), role)
        calls = self._read_calls(given, parts.calls, role)
        return Message(
            role=role,
            content=self._content(given.get("content"), parts),
            reasoning_content=self._reasoning(given, parts.thoughts, role),
            tool_calls=calls,
            tool_call_id=self._answered(given, role),
            name=self._text(given, "name", "invalid_name"),
            weight=self._weight(given, role),
        )

    def _role(self, entry: Any) -> Role:
        if not isinstance(entry, dict):
            message = f"{self._where} is {kind(entry)}: write an object with 'role' and 'content'."
            raise RowError(message, "message_not_an_object")
        given = entry.get("role")
        role = ROLES.get(given) if isinstance(given, str) else None
        if role is not None:
            return role
        if given is None:
            raise RowError(f"{self._where} has no 'role': {WRITE_ROLE}", "missing_role")
        raise RowError(f"{self._where} has the role {str(given)[:40]!r}: {WRITE_ROLE}", "unknown_role")

    def _parts(self, content: Any, role: Role) -> Parts:
        if not isinstance(content, list):
            return NO_PARTS
        found = read_parts(content, self._where, of_assistant=role == "assistant")
        self._unused.update(f"{self._name}[].content[].{key}" for key in found.unused)
        return found

    def _content(self, content: Any, parts: Parts) -> Any:
        if isinstance(content, list):
            return parts.content or (None if parts.calls or parts.thoughts else [])
        if content is None or isinstance(content, str):
            return content
        message = f"The 'content' of {self._where} is {kind(content)}: write it as text, or as a list of parts."
        raise RowError(message, "content_not_text")

    def _reasoning(self, given: dict[str, Any], thoughts: list[str], role: Role) -> str:
        found = [self._thought(given, key) for key in THOUGHTS if given.get(key)]
        if thoughts:
            found.append("\n\n".join(thoughts))
        if found and role != "assistant":
            message = f"{self._where} is the {role}'s and has reasoning: only the assistant's may, so remove it."
            raise RowError(message, "reasoning_not_assistant")
        if len(set(found)) > 1:
            message = f"{self._where} has two different texts of reasoning: remove one."
            raise RowError(message, "two_reasonings")
        return found[0] if found else ""

    def _thought(self, given: dict[str, Any], key: str) -> str:
        if isinstance(given[key], list):
            return joined(given[key], f"the {key!r} of {self._where}")
        return self._text(given, key, "invalid_reasoning")

    def _read_calls(self, given: dict[str, Any], among: list[Any], role: Role) -> tuple[ToolCall, ...]:
        """`among`: calls that stand among the parts of the content."""
        name = "tool_calls" if given.get("tool_calls") else "function_call"
        value = given.get(name)
        if value and among:
            message = f"{self._where} has calls of tools among its parts, and others beside: write all in 'tool_calls'."
            raise RowError(message, "calls_in_two_places")
        if not value and not among:
            return ()
        path = f"{self._name}[].{name if value else 'content[]'}"
        calls = read_calls(value or among, self._calls + 1, self._unused, path)
        if name == "tool_calls" and (legacy := given.get("function_call")):
            self._note_legacy(legacy, calls)
        if calls and role != "assistant":
            message = f"{self._where} is the {role}'s and calls tools: only the assistant may, so remove them."
            raise RowError(message, "tool_calls_not_assistant")
        self._calls += len(calls)
        self._open += calls
        return calls

    def _note_legacy(self, value: Any, calls: tuple[ToolCall, ...]) -> None:
        """The older form beside the newer one may only repeat it."""
        known = {(call.function.name, call.function.arguments) for call in calls}
        path = f"{self._name}[].function_call"
        again = {(call.function.name, call.function.arguments) for call in read_calls(value, 1, self._unused, path)}
        if not again <= known:
            self._unused.add(path)

    def _answered(self, given: dict[str, Any], role: Role) -> str:
        """The id of the call that a tool's message answers: its own, or the first open call's of its name."""
        id_ = given.get("tool_call_id")
        if role != "tool":
            if id_ is not None:
                self._unused.add(f"{self._name}[].tool_call_id")
            return ""
        if id_:
            self._open = [call for call in self._open if call.id != str(id_)]
            return str(id_)
        name = given.get("name")
        fitting = [call for call in self._open if name in (None, "", call.function.name)]
        if not fitting:
            message = f"{self._where} is a tool's and answers no call: write the id of its call as 'tool_call_id'."
            raise RowError(message, "missing_tool_call_id")
        self._open.remove(fitting[0])
        return fitting[0].id

    def _weight(self, given: dict[str, Any], role: Role) -> int | None:
        if given.keys().isdisjoint(WEIGHTS):
            return None
        if role == "assistant":
            return read_weight(given, self._where)
        self._unused.update(f"{self._name}[].{key}" for key in wanted(given))
        return None

    def _text(self, given: dict[str, Any], key: str, code: str) -> str:
        value = given.get(key, "")
        if not isinstance(value, str):
            raise RowError(f"The {key!r} of {self._where} is {kind(value)}: write it as text.", code)
        return value
