"""The files of `tests/cases` as training files: what they teach is what they say, and the rest is named."""

import json
from pathlib import Path

import pytest

from apps.conversations.errors import RowError
from apps.training.files.rows import Row, check
from apps.training.spec import Method

CASES = Path(__file__).resolve().parent.parent / "cases"


def checked(name: str, method: Method = "sft") -> list[Row]:
    unused: set[str] = set()
    rows = [check(line, method, unused) for line in (CASES / name).read_bytes().splitlines()]
    assert not unused
    return rows


@pytest.mark.parametrize(
    ("name", "method", "rows"),
    [
        ("16-kto-label.jsonl", "kto", 3), ("17-sharegpt-calls.jsonl", "sft", 1), ("18-alpaca-history.jsonl", "sft", 1),
        ("17c-preference-tools-lost.jsonl", "dpo", 1), ("24-preference-turns.jsonl", "dpo", 2),
        ("27-late-tools.jsonl", "sft", 2), ("28-thinking-lost-on-import.jsonl", "sft", 2),
        ("30-left-out-unsaid.jsonl", "sft", 12), ("32-end-marker-not-a-stop.jsonl", "sft", 24),
        ("33c-arguments-object.jsonl", "sft", 10), ("36b-null-message-keys.jsonl", "sft", 1),
    ],
)  # fmt: skip
def test_it_works(name: str, method: Method, rows: int) -> None:
    assert len(checked(name, method)) == rows


def test_16_labels_are_no_answers_to_learn() -> None:
    with pytest.raises(RowError) as refused:
        checked("16-kto-label.jsonl")
    assert refused.value.code == "wrong_method"


def test_17_calls() -> None:
    (row,) = checked("17-sharegpt-calls.jsonl")
    (call,) = row["messages"][1]["tool_calls"]
    assert row["messages"][2]["tool_call_id"] == call["id"]
    assert row["tools"][0]["function"]["name"] == "depth"


def test_24_turns_of_a_pair() -> None:
    assert [len(row["preferred_completion"]) for row in checked("24-preference-turns.jsonl", "dpo")] == [3, 3]


def test_28_reasoning() -> None:
    said = [row["messages"][-1]["reasoning_content"] for row in checked("28-thinking-lost-on-import.jsonl")]
    assert said == ["an insect: 6", "an arachnid: 8"]


def test_33c_arguments() -> None:
    for row in checked("33c-arguments-object.jsonl"):
        (call,) = row["messages"][1]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"a": 1}


def test_34_weights() -> None:
    """A row in which nothing is to be learned is refused."""
    first, second = (CASES / "34-weight-lost.jsonl").read_bytes().splitlines()
    assert [message.get("weight") for message in check(first, "sft")["messages"]] == [None, 0, None, 1]
    with pytest.raises(RowError):
        check(second, "sft")
