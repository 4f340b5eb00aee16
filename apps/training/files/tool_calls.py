"""Tools of a training file, and the calls of them. Django-free."""

import re
from typing import Any

import msgspec

from apps.training.files.json_lines import BadRow

MAX_TOOLS = 128
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def calls_of(calls: Any, role: str, where: str) -> list[dict[str, Any]]:
    if role != "assistant":
        message = f"{where} is the {role}'s and has 'tool_calls': only the assistant calls tools, so remove them."
        raise BadRow("tool_calls_not_assistant", message)
    cure = 'write a list of {"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}}.'
    if not isinstance(calls, list) or not calls:
        raise BadRow("invalid_tool_calls", f"The 'tool_calls' of {where} are no list with calls: {cure}")
    made = [_call(call, where, cure) for call in calls]
    if len({call["id"] for call in made}) < len(made):
        raise BadRow("tool_call_id_twice", f"Two 'tool_calls' of {where} have the same id: give each its own.")
    return made


def _call(call: Any, where: str, cure: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(call.get("id"), str) or not call["id"]:
        raise BadRow("invalid_tool_calls", f"A tool call of {where} has a wrong shape: {cure}")
    if call.get("type", "function") != "function":
        message = f"A tool call of {where} has the type {str(call['type'])[:40]!r}: only 'function' can be trained."
        raise BadRow("invalid_tool_calls", message)
    name = check_name(function.get("name"), "invalid_function_name", f"The name of a function that {where} calls")
    arguments = function.get("arguments")
    if not isinstance(arguments, str) or not _is_json_object(arguments):
        message = f'The arguments of {name!r} in {where} are no JSON object in a text: write them as "{{…}}".'
        raise BadRow("arguments_not_json", message)
    return {"id": call["id"], "type": "function", "function": {"name": name, "arguments": arguments}}


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False


def tools_of(tools: Any) -> list[dict[str, Any]]:
    if tools is None:
        return []
    cure = 'write a list of {"type": "function", "function": {"name": "…", "parameters": {…}}}, or leave it out.'
    if not isinstance(tools, list) or not 0 < len(tools) <= MAX_TOOLS:
        raise BadRow("invalid_tools", f"Its 'tools' are no list of 1 to {MAX_TOOLS} tools: {cure}")
    names = [_tool(tool, cure) for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise BadRow("tool_twice", f"Two of its 'tools' are called {twice!r}: remove one, or give it another name.")
    return tools


def _tool(tool: Any, cure: str) -> str:
    """Its name."""
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise BadRow("invalid_tools", f"One of its 'tools' has a wrong shape: {cure}")
    name = check_name(function.get("name"), "invalid_function_name", "The name of a function in 'tools'")
    if not isinstance(function.get("parameters") or {}, dict):
        message = f"The parameters of the tool {name!r} are no JSON schema: write an object, or leave them out."
        raise BadRow("invalid_tool_parameters", message)
    if not isinstance(function.get("description") or "", str):
        raise BadRow("invalid_tools", f"The description of the tool {name!r} is no text: {cure}")
    return name


def check_parallel(value: Any, tools: list[dict[str, Any]]) -> None:
    if value is None:
        return
    if not isinstance(value, bool):
        raise BadRow("invalid_parallel_tool_calls", "Its 'parallel_tool_calls' is neither true nor false: write one.")
    if not tools:
        message = "It has 'parallel_tool_calls', but no 'tools': remove them, or describe the tools."
        raise BadRow("parallel_without_tools", message)


def check_name(name: Any, code: str, what: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadRow(code, f"{what} is {str(name)[:40]!r}: write 1 to 64 letters, digits, _ and -.")
    return name
