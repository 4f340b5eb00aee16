"""Chat rows of which some cannot be used, for thirty different reasons."""

import json
from collections.abc import Callable, Iterator
from typing import Any

Line = bytes


def good_row(number: int) -> dict[str, Any]:
    """With what a conversation may have: a system message, parts, calls of tools, reasoning, weights, tags."""
    question: dict[str, Any] = {"role": "user", "content": f"What is {number} times {number}?"}
    answer: dict[str, Any] = {"role": "assistant", "content": f"{number * number}."}
    row: dict[str, Any] = {"id": f"row-{number}", "messages": [question, answer], "source": "generated"}
    match number % 5:
        case 1:
            row["messages"].insert(0, {"role": "system", "content": "Be short."})
        case 2:
            answer["reasoning_content"] = f"{number} squared."
        case 3:
            question["content"] = [{"type": "text", "text": question["content"]}]
        case 4:
            row["tools"] = [TOOL]
            call = {"id": "c1", "type": "function", "function": {"name": "square", "arguments": f'{{"n": {number}}}'}}
            row["messages"][1:1] = [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": str(number * number)},
            ]
    return row


TOOL = {"type": "function", "function": {"name": "square", "parameters": {"type": "object", "properties": {}}}}
ASK, SAY = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def _said(**more: Any) -> dict[str, Any]:
    """A row whose assistant says more than text."""
    return {"messages": [ASK, SAY | more]}


def _called(**call: Any) -> dict[str, Any]:
    return _said(tool_calls=[{"id": "c1", "type": "function", **call}])


KINDS: dict[str, Any] = {
    "no JSON": b"no JSON at all",
    "a list": b"[1, 2]",
    "no UTF-8": b'{"messages": "\xff\xfe"}',
    "half a surrogate": b'{"messages": "\\ud800"}',
    "a number beyond all bounds": b'{"messages": [], "n": 1e999}',
    "a NUL": {"messages": [{"role": "user", "content": "a\0b"}, SAY]},
    "nested too deep": {"messages": [ASK, SAY], "extra": _nested(70)},
    "too many columns": {"messages": [ASK, SAY], **{f"c{n}": n for n in range(600)}},
    "no messages": {"id": "x"},
    "messages are text": {"messages": "Hi."},
    "a message is text": {"messages": ["Hi."]},
    "an unknown role": {"messages": [{"role": "narrator", "content": "Once upon a time."}, SAY]},
    "content is a number": {"messages": [{"role": "user", "content": 7}, SAY]},
    "a part without an object": {"messages": [{"role": "user", "content": ["Hi."]}, SAY]},
    "a part whose text is a list": {"messages": [{"role": "user", "content": [{"type": "text", "text": ["a"]}]}, SAY]},
    "nobody asks": {"messages": [SAY]},
    "a blank question": {"messages": [{"role": "user", "content": "  "}, SAY]},
    "a weight of two": _said(weight=2),
    "the user thinks": {"messages": [ASK | {"reasoning_content": "Hm."}, SAY]},
    "two thoughts": _said(reasoning="One.", thinking="Two."),
    "a thought that is a list": _said(reasoning=["One."]),
    "the user calls": {"messages": [ASK | {"tool_calls": [{"function": {"name": "f"}}]}, SAY]},
    "a call without a name": _called(function={"arguments": "{}"}),
    "arguments that are no JSON": _called(function={"name": "f", "arguments": "not json"}),
    "a call of another type": _called(type="retrieval", function={"name": "f"}),
    "an answer to no call": {"messages": [ASK, {"role": "tool", "content": "4"}, SAY]},
    "tools are an object": {"messages": [ASK, SAY], "tools": {"name": "f"}},
    "a tool without a name": {"messages": [ASK, SAY], "tools": [{"type": "function", "function": {}}]},
    "parallel calls are text": {"messages": [ASK, SAY], "parallel_tool_calls": "yes"},
    "template arguments are a list": {"messages": [ASK, SAY], "chat_template_kwargs": [1]},
}
"""What is wrong, and a row of it."""


def bad_line(number: int) -> Line:
    """Of the kinds in turn."""
    value = list(KINDS.values())[number % len(KINDS)]
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def lines(
    rows: int, *, every: int = 100, good: Callable[[int], dict[str, Any]] = good_row
) -> Iterator[tuple[Line, bool]]:
    """Each with whether it is bad: one in `every` is, the first of them in line `every`."""
    for number in range(1, rows + 1):
        bad = number % every == 0
        yield (bad_line(number // every - 1) if bad else json.dumps(good(number)).encode()) + b"\n", bad
