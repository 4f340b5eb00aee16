"""Tools and calls of them as people write them, in OpenAI's form.

Understood are OpenAI's own, the older `functions` and `function_call`, and what TRL, ShareGPT and Hugging Face files
write: arguments as an object, a list as JSON text, tools without the wrapper, calls without ids.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from apps.conversations.conversation import FunctionCall, ToolCall
from apps.conversations.errors import RowError

_encode = msgspec.json.Encoder().encode


def read_tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Of a list, or of its JSON text; null, "" and [] are none. Raises `RowError`."""
    value = _from_text(value, "'tools'")
    if value is None or value == []:
        return ()
    if not isinstance(value, list):
        raise RowError("'tools' must be a list of tools, or its JSON text.")
    return tuple(_tool(tool) for tool in value)


def _tool(tool: Any) -> dict[str, Any]:
    tool = _from_text(tool, "A tool")
    if isinstance(tool, dict) and "function" not in tool and isinstance(tool.get("name"), str):
        tool = {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowError('A tool must be {"type": "function", "function": {"name": "…", "parameters": {…}}}.')
    if tool.get("type", "function") != "function":
        raise RowError(f"A tool has the type {str(tool['type'])[:40]!r}: only 'function' is known.")
    function = {key: value for key, value in function.items() if value is not None}
    if isinstance(function.get("parameters"), str):
        function["parameters"] = _from_text(function["parameters"], f"The parameters of {function['name'][:60]!r}")
    if not isinstance(function.get("parameters", {}), dict):
        raise RowError(f"The parameters of {function['name'][:60]!r} must be a JSON schema.")
    return {"type": "function", "function": function}


def read_calls(value: Any, first_id: int) -> tuple[ToolCall, ...]:
    """An assistant's calls, of a list or its JSON text. One without an id gets "call_N", N from `first_id`.

    Raises `RowError`.
    """
    value = _from_text(value, "'tool_calls'")
    if value is None or value == []:
        return ()
    calls = value if isinstance(value, list) else [value]
    return tuple(_call(call, first_id + at) for at, call in enumerate(calls))


def _call(call: Any, number: int) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name or not isinstance(function, Mapping):
        raise RowError('A call of a tool must be {"name": "…", "arguments": {…}}, or OpenAI\'s form of it.')
    if call.get("type", "function") not in ("function", None):
        raise RowError(f"A call of {name[:60]!r} has the type {str(call['type'])[:40]!r}: only 'function' is known.")
    id_ = call.get("id") or call.get("tool_call_id") or f"call_{number}"
    if not isinstance(id_, str | int):
        raise RowError(f"The id of a call of {name[:60]!r} must be text.")
    given = function.get("arguments", function.get("parameters"))
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
    raise RowError(f"The arguments of {name[:60]!r} must be a JSON object, or its text.")


def _from_text(value: Any, what: str) -> Any:
    """Files without nested columns write lists and objects as JSON text."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RowError(f"{what} is text, but no JSON.") from error
