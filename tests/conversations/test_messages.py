"""Messages as people write them become one kind of message; what cannot be held is refused or named."""

import json
from typing import Any

import pytest

from apps.conversations.conversation import decode_messages, encode
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

USER = {"role": "user", "content": "Warm in Orn?"}


def read(*messages: dict[str, Any]) -> tuple[list[dict[str, Any]], set[str]]:
    unused: set[str] = set()
    made = read_messages(list(messages), "messages", unused)
    assert decode_messages(encode(made)) == made
    return json.loads(encode(made)), unused


def test_it_works() -> None:
    answer = {"role": "assistant", "content": "No.", "reasoning_content": "Far north.", "weight": 0}
    assert read(USER, answer) == ([USER, answer], set())


def test_keys_that_are_null_are_left_out() -> None:
    assert read({**USER, "name": None, "tool_calls": None, "tool_call_id": None}) == ([USER], set())


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_has_one_name(key: str) -> None:
    made, _ = read(USER, {"role": "assistant", "content": "8", key: "an arachnid: 8"})
    assert made[1] == {"role": "assistant", "content": "8", "reasoning_content": "an arachnid: 8"}


@pytest.mark.parametrize("arguments", ['{"lake": "Orn"}', {"lake": "Orn"}])
def test_calls_without_ids_get_some_and_their_results_the_same(arguments: Any) -> None:
    calls = [{"function": {"name": name, "arguments": arguments}} for name in ("depth", "width")]
    made, _ = read(
        USER, {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "name": "width", "content": "9"}, {"role": "tool", "content": "41"},
    )  # fmt: skip
    assert [call["id"] for call in made[1]["tool_calls"]] == ["call_1", "call_2"]
    assert [json.loads(call["function"]["arguments"]) for call in made[1]["tool_calls"]] == [{"lake": "Orn"}] * 2
    assert [message["tool_call_id"] for message in made[2:]] == ["call_2", "call_1"]


def test_the_older_function_call_is_a_tool_call() -> None:
    made, _ = read(
        USER, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    )  # fmt: skip
    assert made[1]["tool_calls"] == [{"id": "call_1", "function": {"name": "f", "arguments": "{}"}, "type": "function"}]
    assert made[2] == {"role": "tool", "content": "1", "tool_call_id": "call_1", "name": "f"}


def test_a_new_id_is_none_that_another_call_has() -> None:
    calls = [{"id": "call_2", "function": {"name": "f"}}, {"function": {"name": "g"}}]
    made, _ = read(USER, {"role": "assistant", "content": None, "tool_calls": calls})
    assert [call["id"] for call in made[1]["tool_calls"]] == ["call_2", "call_1"]


def test_an_error_names_the_message_and_its_kind() -> None:
    with pytest.raises(RowError) as caught:
        read(USER, {"role": "human", "content": "x"})
    assert str(caught.value) == "messages[1] has the role 'human': write system, user, assistant or tool."
    assert caught.value.code == "unknown_role"


def test_keys_that_are_not_used_are_named() -> None:
    made, unused = read({**USER, "score": 3, "weight": 1, "tool_call_id": "c1"})
    assert made == [USER]
    assert unused == {"messages[].score", "messages[].weight", "messages[].tool_call_id"}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "assistant", "content": "x", "weight": 0.5}, "write 0 or 1"),
        ({"role": "assistant", "content": "x", "weight": True}, "write 0 or 1"),
        ({"role": "assistant", "content": "x", "reasoning": "a", "thinking": "b"}, "two different texts"),
        ({"role": "user", "content": "x", "reasoning": "a"}, "only the assistant's may"),
        ({"role": "user", "content": "x", "tool_calls": [{"name": "f"}]}, "only the assistant may"),
        ({"role": "tool", "content": "41"}, "answers no call"),
        ({"role": "assistant", "content": None, "tool_calls": "not json"}, "no JSON"),
        ({"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": "not json"}]}, "JSON object"),
        ({"role": "assistant", "content": None, "tool_calls": [7]}, "A call of a tool has a wrong shape"),
        ({"role": "user", "content": "x", "name": 7}, "write it as text"),
    ],
)
def test_it_rejects(message: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        read(USER, message)
