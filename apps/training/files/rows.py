"""One line of a training file: what it must hold, and what is wrong with it. Django-free.

The rules are OpenAI's (https://platform.openai.com/docs/guides/supervised-fine-tuning), and what chat templates of open
models can render. A checked row has one shape whatever was written: texts in parts become one text, "developer" becomes
"system", keys that are null are left out.
"""

from collections.abc import Mapping
from typing import Any, Literal

from apps.training.files.json_lines import BadRow, check_keys, json_object, kind
from apps.training.files.messages import checked, checked_all
from apps.training.files.tool_calls import check_parallel, tools_of
from apps.training.spec import Method

__all__ = ["BadRow", "Row", "Shape", "check", "shape_of"]

Row = dict[str, Any]
Shape = Literal["chat", "completion", "preference"]

CHAT = {"messages", "tools", "parallel_tool_calls"}
COMPLETION = {"prompt", "completion"}
PREFERENCE = {"input", "preferred_completion", "non_preferred_completion"}
ALSO_CALLED = {"preferred_output": "preferred_completion", "non_preferred_output": "non_preferred_completion"}
"""OpenAI's guide has other names for the two than its reference."""


def check(raw: bytes, method: Method) -> Row:
    """The row of a line, in the shape that the trainer reads. Raises `BadRow`."""
    values = json_object(raw)
    values = {ALSO_CALLED.get(key, key): value for key, value in values.items()}
    if method == "dpo":
        return _preference(values)
    if "input" in values and "preferred_completion" in values:
        raise BadRow("wrong_method", "It is a preference pair: create the job with the method 'dpo', or use a chat.")
    return _completion(values) if values.keys() & COMPLETION and "messages" not in values else _chat(values)


def shape_of(row: Row) -> Shape:
    if "messages" in row:
        return "chat"
    return "preference" if "input" in row else "completion"


def _completion(values: Mapping[str, Any]) -> Row:
    check_keys(values, COMPLETION, "The line")
    for key in ("prompt", "completion"):
        if key not in values:
            raise BadRow(f"missing_{key}", f"It has no '{key}': write both 'prompt' and 'completion'.")
        if not isinstance(values[key], str):
            raise BadRow(f"{key}_not_text", f"Its '{key}' is {kind(values[key])}: write it as text.")
        if not values[key]:
            raise BadRow(f"empty_{key}", f"Its '{key}' is empty: write some text, or remove the line.")
    return {key: values[key] for key in ("prompt", "completion")}


def _chat(values: Mapping[str, Any]) -> Row:
    if "messages" not in values:
        message = "It has no 'messages': write {\"messages\": […]}, or a 'prompt' and a 'completion'."
        raise BadRow("missing_messages", message)
    if values.keys() & {"functions", "function_call"}:
        raise BadRow("functions_deprecated", "It has 'functions', which are outdated: describe them in 'tools'.")
    check_keys(values, CHAT, "The line")
    tools = tools_of(values.get("tools"))
    check_parallel(values.get("parallel_tool_calls"), tools)
    messages = checked_all(values["messages"], weights=True)
    _check_answers(messages)
    return {"messages": messages} | ({"tools": tools} if tools else {})


def _check_answers(messages: list[Row]) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise BadRow("no_assistant_message", "No message has the role 'assistant': add the answer to learn.")
    if messages[-1]["role"] != "assistant":
        message = f"Its last message has the role {messages[-1]['role']!r}: end with the assistant's answer."
        raise BadRow("last_message_not_assistant", message)
    if all(answer.get("weight") == 0 for answer in answers):
        message = "Every assistant message has the weight 0, so nothing is learned: give one the weight 1."
        raise BadRow("nothing_to_learn", message)


def _preference(values: Mapping[str, Any]) -> Row:
    if "messages" in values or values.keys() & COMPLETION:
        message = "It is no preference pair: create the job with the method 'supervised', or write pairs."
        raise BadRow("wrong_method", message)
    if "input" not in values:
        raise BadRow("missing_input", 'It has no \'input\': write {"input": {"messages": […]}, …}.')
    check_keys(values, PREFERENCE, "The line")
    better = _preferred(values, "preferred_completion", "preferred_output")
    worse = _preferred(values, "non_preferred_completion", "non_preferred_output")
    if better == worse:
        raise BadRow("equal_pair", "Both answers are equal, so none is better: change one, or remove the line.")
    asked = _input(values["input"])
    return {"input": asked, "preferred_completion": better, "non_preferred_completion": worse}


def _input(value: Any) -> Row:
    if not isinstance(value, dict):
        raise BadRow("input_not_an_object", f"Its 'input' is {kind(value)}: write it as {{\"messages\": […]}}.")
    check_keys(value, CHAT, "Its 'input'")
    if "messages" not in value:
        raise BadRow("missing_messages", "Its 'input' has no 'messages': write {\"messages\": […]}.")
    tools = tools_of(value.get("tools"))
    check_parallel(value.get("parallel_tool_calls"), tools)
    messages = checked_all(value["messages"], weights=False)
    if messages[-1]["role"] not in ("user", "tool"):
        message = f"Its 'input' ends with the role {messages[-1]['role']!r}: end with what the two answers answer to."
        raise BadRow("input_not_a_question", message)
    return {"messages": messages} | ({"tools": tools} if tools else {})


def _preferred(values: Mapping[str, Any], key: str, called: str) -> list[Row]:
    found = values.get(key)
    cure = 'write exactly one assistant message, as in [{"role": "assistant", "content": "…"}].'
    if found is None:
        raise BadRow(f"missing_{key}", f"It has no {called!r}: {cure}")
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
        raise BadRow("not_one_answer", f"Its {called!r} is not a list with one message: {cure}")
    if found[0].get("role") != "assistant":
        raise BadRow("answer_not_assistant", f"The message of {called!r} is not the assistant's: {cure}")
    return [checked(found[0], f"{called}[0]", weights=False)]
