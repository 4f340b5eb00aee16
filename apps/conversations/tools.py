"""Tools and calls of them as people write them, in OpenAI's form.

Understood are OpenAI's own, the older `functions` and `function_call`, and what TRL, ShareGPT and Hugging Face files
write: arguments as an object, a list as JSON text, tools without the wrapper, calls without ids.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import msgspec

from apps.conversations import json_text
from apps.conversations.conversation import FunctionCall, ToolCall
from apps.conversations.errors import RowError, kind

WRITE_TOOLS = 'write a list of {"type": "function", "function": {"name": "…", "parameters": {…}}}.'
WRITE_CALLS = 'write a list of {"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}}.'

TOOL_KEYS = {"type", "function"}
CALL_KEYS = {"id", "tool_call_id", "type", "function", "index"}
"""Of a call beside its function; its index says its place in the list once more."""
FUNCTION_KEYS = {"name", "arguments", "parameters"}

_encode = msgspec.json.Encoder().encode


def read_tools(value: Any, unused: set[str], where: str = "tools") -> tuple[dict[str, Any], ...]:
    """Of a list, or of its JSON text; null, "" and [] are none. `unused` gets paths like "tools[].strict".

    Raises `RowError`.
    """
    value = _from_text(value, "Its 'tools'", "invalid_tools", WRITE_TOOLS)
    if value is None or value == []:
        return ()
    if not isinstance(value, list):
        raise RowError(f"Its 'tools' are {kind(value)}: {WRITE_TOOLS}", "invalid_tools")
    return tuple(_tool(tool, unused, f"{where}[]") for tool in value)


def _tool(tool: Any, unused: set[str], where: str) -> dict[str, Any]:
    tool = _from_text(tool, "Some tools", "invalid_tools", WRITE_TOOLS)
    if isinstance(tool, dict) and "function" not in tool and isinstance(tool.get("name"), str):
        kind_of_tool = tool.get("type") or "function"
        tool = {"type": kind_of_tool, "function": {key: value for key, value in tool.items() if key != "type"}}
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise RowError(f"One of the 'tools' has a wrong shape: {WRITE_TOOLS}", "invalid_tools")
    if tool.get("type", "function") != "function":
        message = f"A tool has the type {str(tool['type'])[:40]!r}: only 'function' is known, so remove it."
        raise RowError(message, "invalid_tools")
    _note(tool, TOOL_KEYS, unused, where)
    name = _name(function.get("name"), "The name of a function in 'tools'")
    function = {key: value for key, value in function.items() if value is not None}
    if isinstance(function.get("parameters"), str):
        what, cure = f"The parameters of {name[:60]!r}", "write an object, or leave them out."
        function["parameters"] = _from_text(function["parameters"], what, "invalid_tool_parameters", cure)
    if not isinstance(function.get("parameters") or {}, dict):
        message = f"The parameters of {name[:60]!r} are no JSON schema: write an object, or leave them out."
        raise RowError(message, "invalid_tool_parameters")
    return {"type": "function", "function": function}


def _name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise RowError(f"{what} is {kind(name) if name != '' else 'empty'}: write its name.", "invalid_function_name")
    return name


def _note(given: Mapping[str, Any], known: set[str], unused: set[str], where: str) -> None:
    if more := given.keys() - known:
        unused.update(f"{where}.{key}" for key in more if given[key] is not None)


def read_calls(value: Any, first_id: int, unused: set[str], where: str = "tool_calls") -> tuple[ToolCall, ...]:
    """An assistant's calls, of a list or its JSON text. One without an id gets "call_N", N from `first_id`.

    `unused` gets paths like "messages[].tool_calls[].output". Raises `RowError`.
    """
    value = _from_text(value, "Its 'tool_calls'", "invalid_tool_calls", WRITE_CALLS)
    if value is None or value == []:
        return ()
    given = value if isinstance(value, list) else [value]
    calls = [_from_text(call, "A call of a tool", "invalid_tool_calls", WRITE_CALLS) for call in given]
    taken = {str(call["id"]) for call in calls if isinstance(call, dict) and call.get("id")}
    free = (id_ for id_ in map("call_{}".format, count(first_id)) if id_ not in taken)
    return tuple(_call(call, free, unused, f"{where}[]") for call in calls)


def _call(call: Any, free: Iterator[str], unused: set[str], where: str) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise RowError(f"A call of a tool has a wrong shape: {WRITE_CALLS}", "invalid_tool_calls")
    if call.get("type", "function") not in ("function", None):
        message = f"A call of a tool has the type {str(call['type'])[:40]!r}: only 'function' is known."
        raise RowError(message, "invalid_tool_calls")
    name = _name(function.get("name"), "The name of a function that is called")
    id_ = call.get("id") or call.get("tool_call_id") or next(free)
    if not isinstance(id_, str | int):
        raise RowError(f"The id of a call of {name[:60]!r} is {kind(id_)}: write it as text.", "invalid_tool_calls")
    if function is call:
        _note(call, CALL_KEYS | FUNCTION_KEYS, unused, where)
    else:
        _note(call, CALL_KEYS, unused, where)
        _note(function, FUNCTION_KEYS, unused, f"{where}.function")
    given = function.get("arguments")
    if given is None:
        given = function.get("parameters")
    elif function.get("parameters"):
        unused.add(f"{where}.function.parameters")
    return ToolCall(id=str(id_), function=FunctionCall(name=name, arguments=_arguments(given, name)))


def _arguments(value: Any, name: str) -> str:
    if value is None or value == "":
        return "{}"
    if isinstance(value, dict):
        return _encode(value).decode()
    if isinstance(value, str):
        try:
            if isinstance(msgspec.json.decode(value), dict):
                return value
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            pass
    message = f'The arguments of {name[:60]!r} are no JSON object: write them as one, or as its text, "{{…}}".'
    raise RowError(message, "arguments_not_json")


def _from_text(value: Any, what: str, code: str, cure: str) -> Any:
    """Files without nested columns write lists and objects as JSON text."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json_text.decoded(value.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RowError(f"{what} as text are no JSON: {cure}", code) from error
