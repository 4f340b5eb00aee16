"""Rows of every known shape become drafts of examples; a row that does not fit says why."""

import json
from typing import Any

import pytest

from apps.conversations.errors import RowError
from apps.datasets.imports.readers import Row
from apps.datasets.imports.shapes import Draft, detect, draft

USER = {"role": "user", "content": "Capital of France?"}
SYSTEM = {"role": "system", "content": "Be brief."}
PARIS = {"role": "assistant", "content": "Paris"}
LYON = {"role": "assistant", "content": "Lyon"}

ROWS: dict[str, list[dict[str, Any]]] = {
    "batch": [
        {
            "custom_id": "q-1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [USER]},
        },
        {"custom_id": "q-1", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Capital of France?"}},
        {"custom_id": "q-1", "method": "POST", "url": "/v1/responses", "body": {"input": "Capital of France?"}},
        {"custom_id": "q-1", "method": "POST", "url": "/v1/responses", "body": {"input": [USER]}},
    ],
    "chat": [{"messages": [SYSTEM, USER, PARIS]}, {"messages": [USER]}],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Capital of France?"}, {"from": "gpt", "value": "Paris"}]},
        {"system": "Be brief.", "conversations": [{"from": "user", "value": "Capital of France?"}]},
        {"conversations": [USER, PARIS]},
    ],
    "alpaca": [{"instruction": "Capital of France?", "input": "", "output": "Paris"}],
    "completion": [
        {"prompt": "Capital of France?", "completion": "Paris"},
        {"prompt": [SYSTEM, USER], "completion": [PARIS]},
    ],
    "kto": [
        {"prompt": "Capital of France?", "completion": "Paris", "label": True},
        {"prompt": [SYSTEM, USER], "completion": [LYON], "label": False},
        {"prompt": "Capital of France?", "completion": "Paris", "label": "True"},
        {"messages": [USER, PARIS], "label": True},
        {"messages": [USER, LYON], "kto_tag": False},
    ],
    "preference": [
        {"prompt": "Capital of France?", "chosen": "Paris", "rejected": "Lyon"},
        {"prompt": [USER], "chosen": [PARIS], "rejected": [LYON]},
        {"chosen": [USER, PARIS], "rejected": [USER, LYON]},
        {"input": {"messages": [USER]}, "preferred_output": [PARIS], "non_preferred_output": [LYON]},
        {"input": {"messages": [USER]}, "preferred_completion": [PARIS], "non_preferred_completion": [LYON]},
    ],
}


def made(values: dict[str, Any], shape: str) -> Draft:
    return draft(Row(1, values, json.dumps(values)), shape)


@pytest.mark.parametrize(("shape", "values"), [(shape, row) for shape, rows in ROWS.items() for row in rows])
def test_it_works(shape: str, values: dict[str, Any]) -> None:
    assert detect([values, values]) == shape
    found = made(values, shape)
    assert found.conversation.question == "Capital of France?"
    assert found.messages[-1] == USER
    assert found.reference in ("", "Paris")
    is_bad = values.get("label", values.get("kto_tag")) is False
    assert found.rejected == ("Lyon" if shape == "preference" or is_bad else "")
    assert json.loads(found.data) == values


def test_system_and_earlier_turns_are_kept() -> None:
    turns = [SYSTEM, USER, PARIS, {"role": "user", "content": "And of Peru?"}, {"role": "assistant", "content": "Lima"}]
    found = made({"messages": turns}, "chat")
    assert (found.messages, found.conversation.question, found.reference) == (turns[:-1], "And of Peru?", "Lima")
    shared = {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}],
    }
    assert made(shared, "sharegpt").messages == [SYSTEM, {"role": "user", "content": "Hi"}]


def test_tools_are_kept() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "capital", "arguments": "{}"}}]
    turns = [
        USER, {"role": "assistant", "content": None, "tool_calls": calls, "weight": 1},
        {"role": "tool", "tool_call_id": "1", "content": "Paris"}, PARIS,
    ]  # fmt: skip
    tool = {"type": "function", "function": {"name": "capital"}}
    found = made({"messages": turns, "tools": [tool]}, "chat")
    assert found.messages[1] == {"role": "assistant", "content": None, "tool_calls": calls, "weight": 1}
    assert found.messages[2]["tool_call_id"] == "1"
    assert json.loads(found.request()) == {"tools": [tool]}
    assert json.loads(made({"messages": turns[:2]}, "chat").reference) == calls


def test_older_functions_are_tools() -> None:
    found = made({"messages": [USER, PARIS], "functions": [{"name": "capital", "parameters": {}}]}, "chat")
    assert found.conversation.tools == ({"type": "function", "function": {"name": "capital", "parameters": {}}},)


def test_parts_of_a_message_show_their_text() -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    found = made({"messages": [{"role": "user", "content": parts}]}, "chat")
    assert (found.conversation.question, found.messages[0]["content"]) == ("What is this?\n[image_url]", parts)


def test_instruction_and_input_are_one_prompt() -> None:
    found = made({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}, "alpaca")
    assert found.conversation.question == "Translate.\n\nGuten Tag"


def test_ids_and_tags_come_along() -> None:
    found = made({"id": 17, **ROWS["alpaca"][0], "tags": ["Geo", " geo", "x" * 51, 7]}, "alpaca")
    assert (found.conversation.tags, found.unused) == (("geo", "7"), {"tags[] of more than 50 characters"})
    assert made({"id": 17, **ROWS["alpaca"][0], "tags": "geo, easy ,"}, "alpaca").conversation.tags == ("geo", "easy")
    assert made({"id": 17, **ROWS["alpaca"][0]}, "alpaca").conversation.key == "17"
    assert made(ROWS["batch"][0], "batch").conversation.key == "q-1"
    assert made({"id": True, **ROWS["alpaca"][0]}, "alpaca").conversation.key == ""
    assert made({"id": "x" * 900, **ROWS["alpaca"][0]}, "alpaca").conversation.key == ""


def test_a_thumb_says_whether_an_answer_is_learned() -> None:
    """One that is down is no reference: what was marked as bad must not be taught."""
    up, down = ({"prompt": "Capital of France?", "completion": "Lyon", "label": label} for label in (True, False))
    assert (made(up, "kto").reference, made(up, "kto").rejected) == ("Lyon", "")
    assert (made(down, "kto").reference, made(down, "kto").rejected) == ("", "Lyon")


def test_numbers_beside_messages_are_no_thumbs() -> None:
    assert detect([{"messages": [USER, PARIS], "label": 1}] * 2) == "chat"


def test_anything_else_is_plain_columns() -> None:
    assert detect([{"question": "?", "answer": "!"}]) == "columns"
    assert detect([{"messages": "no list"}]) == "columns"
    assert detect([ROWS["chat"][0], {"other": 1}, {"other": 1}]) == "columns"


@pytest.mark.parametrize(
    ("shape", "values", "says"),
    [
        ("chat", {"messages": []}, "'messages' must be a list of messages"),
        ("chat", {"messages": "Hi"}, "'messages' must be a list of messages"),
        (
            "chat",
            {"messages": [{"role": "pirate", "content": "Arr"}]},
            "messages[0] has the role 'pirate': write system",
        ),
        ("chat", {"messages": [{"role": "user", "content": 7}]}, "write it as text, or as a list of parts"),
        ("chat", {"messages": [{"role": "user", "content": ["Hi"]}]}, "A part of messages[0] has a wrong shape"),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
            "A part of messages[0] has a wrong shape",
        ),
        ("chat", {"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0] has the role"),
        ("chat", {"messages": [SYSTEM, PARIS]}, "No message of a user asks anything."),
        ("chat", {"messages": [{"role": "user", "content": "  "}]}, "No message of a user asks anything."),
        ("chat", {"messages": [PARIS]}, "No message of a user asks anything."),
        ("batch", {"body": []}, "'body' must be an object."),
        ("batch", {"url": "/v1/embeddings", "body": {"input": ["a", "b"]}}, "'input' must be text."),
        ("sharegpt", {"conversations": [{"from": "alien", "value": "Hi"}]}, "'from': one of human"),
        ("sharegpt", {"conversations": ["Hi"]}, "A turn must have 'value'"),
        ("sharegpt", {"conversations": [{"from": ["human"], "value": "Hi"}]}, "'from': one of human"),
        ("alpaca", {"instruction": 7, "output": "x"}, "'instruction' must be text."),
        ("completion", {"prompt": "Hi", "completion": 7}, "'completion' must be a list of messages"),
        ("completion", {"prompt": "Hi", "completion": None}, "'completion' must be a list of messages"),
        ("kto", {"prompt": "Hi", "completion": "Ho", "label": "good"}, "write true for a thumb up, or false"),
        ("kto", {"prompt": "Hi", "completion": "Ho", "label": None}, "write true for a thumb up, or false"),
        ("kto", {"messages": [USER], "label": True}, "'messages' must be the assistant's"),
        ("preference", {"prompt": "Hi", "chosen": [USER], "rejected": "x"}, "'chosen' must be the assistant's"),
        ("preference", {"chosen": [USER, PARIS], "rejected": [USER, PARIS]}, "must begin with the same question"),
        ("preference", {"chosen": [PARIS], "rejected": [LYON]}, "'prompt' must be text"),
        ("preference", {"chosen": "no prompt", "rejected": "x"}, "'prompt' must be text"),
        ("preference", {"input": {"messages": [USER]}, "preferred_output": [PARIS]}, "'non_preferred_output' must be"),
    ],
)
def test_it_rejects(shape: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError) as caught:
        made(values, shape)
    assert says in str(caught.value)
