"""Messages as people write them, read into `Message`.

Most rows are exactly OpenAI's and are read at once; the rest is looked at key by key. What cannot be held raises
`RowError`; keys that are not used are named in `unused`, so that nobody loses them without a word.
"""

from typing import Any

from apps.conversations.conversation import Message, Messages, Role, ToolCall
from apps.conversations.errors import RowError
from apps.conversations.tools import read_calls

ROLES: dict[str, Role] = {
    "system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
KNOWN = frozenset((
    "role", "content", "reasoning_content", "reasoning", "thinking", "tool_calls", "function_call", "tool_call_id",
    "name", "weight",
))  # fmt: skip
THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def read_messages(value: Any, where: str, unused: set[str]) -> Messages:
    """`where` names the list in sentences, "messages" for example. `unused` gets paths like "messages[].score".

    Raises `RowError`.
    """
    if not isinstance(value, list) or not value:
        raise RowError(f"{where!r} must be a list of messages.")
    reader = _Reader(where, unused)
    return tuple(reader.read(entry) for entry in value)


def read_answer(value: Any, where: str, unused: set[str]) -> Messages:
    """One side of a pair: text, a message, or messages that end with the assistant's. Raises `RowError`."""
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    answer = read_messages([value] if isinstance(value, dict) else value, where, unused)
    if answer[-1].role != "assistant":
        raise RowError(f"The last message in {where!r} must be the assistant's.")
    return answer


class _Reader:
    """Of one list: it gives ids to calls that have none, and the answers to them the same."""

    def __init__(self, where: str, unused: set[str]) -> None:
        self._where, self._unused = where, unused
        self._calls = 0
        self._open: list[ToolCall] = []
        """Calls that no tool's message has answered yet."""

    def read(self, entry: Any) -> Message:
        if not isinstance(entry, dict) or (role := _role(entry)) is None:
            raise RowError(f"A message in {self._where!r} must have a 'role': one of {', '.join(ROLES)}.")
        given = {key: value for key, value in entry.items() if value is not None}
        self._unused.update(f"{self._where}[].{key}" for key in given.keys() - KNOWN)
        calls = self._read_calls(given, role)
        return Message(
            role=role,
            content=self._content(given.get("content")),
            reasoning_content=self._reasoning(given, role),
            tool_calls=calls,
            tool_call_id=self._answered(given) if role == "tool" else "",
            name=self._text(given, "name"),
            weight=self._weight(given.get("weight"), role),
        )

    def _content(self, content: Any) -> Any:
        if content is None or isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else None
        if parts is None or not all(isinstance(part, dict) for part in parts):
            raise RowError(f"The content of a message in {self._where!r} must be text or a list of parts.")
        if not all(isinstance(part.get("text", ""), str | None) for part in parts):
            raise RowError(f"The text of a part in {self._where!r} must be text.")
        return [{key: value for key, value in part.items() if value is not None} for part in parts]

    def _reasoning(self, given: dict[str, Any], role: Role) -> str:
        found = [self._text(given, key) for key in THOUGHTS if given.get(key)]
        if found and role != "assistant":
            raise RowError(f"A message of the {role}'s in {self._where!r} has reasoning: only the assistant's may.")
        if len(set(found)) > 1:
            raise RowError(f"A message in {self._where!r} has two different texts of reasoning.")
        return found[0] if found else ""

    def _read_calls(self, given: dict[str, Any], role: Role) -> tuple[ToolCall, ...]:
        value = given.get("tool_calls") or given.get("function_call")
        calls = read_calls(value, self._calls + 1)
        if calls and role != "assistant":
            raise RowError(f"A message of the {role}'s in {self._where!r} calls tools: only the assistant's may.")
        self._calls += len(calls)
        self._open += calls
        return calls

    def _answered(self, given: dict[str, Any]) -> str:
        """The id of the call that a tool's message answers: its own, or the first open call's of its name."""
        if id_ := given.get("tool_call_id"):
            self._open = [call for call in self._open if call.id != str(id_)]
            return str(id_)
        name = given.get("name")
        fitting = [call for call in self._open if name in (None, "", call.function.name)]
        if not fitting:
            raise RowError(f"A tool's message in {self._where!r} answers no call: give it the call's 'tool_call_id'.")
        self._open.remove(fitting[0])
        return fitting[0].id

    def _weight(self, weight: Any, role: Role) -> int | None:
        if weight is None or role != "assistant":
            if weight is not None:
                self._unused.add(f"{self._where}[].weight")
            return None
        if isinstance(weight, bool) or weight not in (0, 1):
            raise RowError(f"A 'weight' in {self._where!r} is {str(weight)[:40]!r}: write 0 or 1.")
        return int(weight)

    def _text(self, given: dict[str, Any], key: str) -> str:
        value = given.get(key, "")
        if not isinstance(value, str):
            raise RowError(f"{key!r} of a message in {self._where!r} must be text.")
        return value


def _role(entry: dict[str, Any]) -> Role | None:
    role = entry.get("role")
    return ROLES.get(role) if isinstance(role, str) else None
