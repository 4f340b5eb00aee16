"""Whether messages and tools are exactly OpenAI's already: most are, and need no reading. Django-free.

What is found to be exact is what `apps.conversations` would read it as.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(min_length=1)]


class _Function(Struct, forbid_unknown_fields=True):
    name: Text
    arguments: Text


class _Call(Struct, forbid_unknown_fields=True):
    id: Text
    type: Literal["function"]
    function: _Function


class _System(Struct, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: str


class _User(Struct, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: str
    name: str = ""


class _Assistant(Struct, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    content: str | None
    name: str = ""
    weight: Literal[0, 1] = 1
    reasoning_content: str = ""
    tool_calls: Annotated[list[_Call], Meta(min_length=1)] | UnsetType = UNSET


class _Tool(Struct, forbid_unknown_fields=True, tag_field="role", tag="tool"):
    content: str
    tool_call_id: Text
    name: str = ""


class _Described(Struct):
    name: Text
    description: str = ""
    parameters: dict[str, Any] = {}


class _Named(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Described


class _Messages(Struct):
    """A struct, since msgspec prepares other types for every call anew."""

    given: Annotated[list[_System | _User | _Assistant | _Tool], Meta(min_length=1)]


class _ToolList(Struct):
    given: Annotated[list[_Named], Meta(min_length=1)]


def are_messages(value: Any) -> bool:
    try:
        for message in msgspec.convert({"given": value}, _Messages).given:
            if type(message) is _Assistant and message.tool_calls:
                for call in message.tool_calls:
                    msgspec.json.decode(call.function.arguments, type=dict)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return False
    return True


def are_tools(value: Any) -> bool:
    try:
        tools = msgspec.convert({"given": value}, _ToolList).given
    except msgspec.MsgspecError:
        return False
    names = {tool.function.name for tool in tools}
    return len(names) == len(tools) and not any(entry is None for tool in value for entry in tool["function"].values())
