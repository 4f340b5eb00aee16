"""Whatever keys rows have, each is counted once: used, kept, or lost."""

import json
import random
from typing import Any

import pytest

from apps.conversations.codecs import CODECS
from apps.datasets.imports import accounting
from apps.datasets.imports.accounting import FieldCounter, FieldUse
from apps.datasets.imports.readers import Row
from apps.datasets.imports.shapes import draft

ROWS = 300
NAMES = ["label", "weight", "tools", "context", "rejected", "source", "level", "id", "uuid", "tags", "score", "history"]
VALUES: list[Any] = [None, "", 0, False, [], {}, "x", 1.5, ["a"], {"a": 1}]


def counted(rows: list[dict[str, Any]], shape: str = "chat") -> dict[str, FieldUse]:
    counter = FieldCounter({**CODECS[shape].columns, "id": "key", "uuid": "key", "tags": "tags"}, verbatim=True)
    for line, values in enumerate(rows, start=1):
        made = draft(Row(line, values, json.dumps(values)), shape)
        counter.add(Row(line, values, ""), made.conversation, made.unused)
    return {use.name: use for use in counter.uses()}


def rows_with(rows: list[dict[str, Any]], name: str) -> list[int]:
    """Lines of the rows that have something there."""
    return [line for line, row in enumerate(rows, start=1) if row.get(name) not in (None, "", [], {})]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("patterns", [3, accounting.MAX_PATTERNS])
def test_it_works(seed: int, patterns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where more sets of columns come than are counted apart."""
    monkeypatch.setattr(accounting, "MAX_PATTERNS", patterns)
    chance = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(ROWS):
        row: dict[str, Any] = {"messages": [{"role": "user", "content": f"Why {chance.random()}?"}]}
        row |= {name: chance.choice(VALUES) for name in chance.sample(NAMES, 4) if name != "tools"}
        rows.append(row)
    uses = counted(rows)
    for name in ["messages", *NAMES]:
        lines = rows_with(rows, name)
        assert (name in uses) == bool(lines), name
        if lines:
            assert (uses[name].rows, uses[name].line) == (len(lines), lines[0]), name
    assert uses["source"].use == "kept"
    assert {name for name, use in uses.items() if use.loss} == {
        "label", "weight", "context", "rejected", "score", "history", "id that is neither text nor a whole number",
        "uuid that is neither text nor a whole number", "tags that are neither a list nor text",
    }  # fmt: skip


def test_a_loss_is_counted_where_it_is_one() -> None:
    """Not in the rows in which the column only repeats what is used."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Is coal white?"}]}
    rows: list[dict[str, Any]] = [{**asked, "prompt": "Is coal white?"}, {**asked, "prompt": "Is tin soft?"}, asked]
    use = counted(rows)["prompt"]
    assert (use.loss, use.rows, use.line) == (True, 1, 2)


@pytest.mark.parametrize(
    ("value", "lost"),
    [
        ("why?", True), ("Why?", False), ([{"role": "user", "content": "Why?"}], False), (7, True),
        ([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], False),
        ([{"role": "assistant", "content": "So.", "reasoning_content": "Hm."}], True),
        ([{"role": "assistant", "content": "So.", "weight": 0}], True),
        ([{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}], True),
        ([{"from": "human", "value": "Why?"}], False), ([[["Why?"]]], False), ([[1]], True), ({"a": "Why?"}, True),
    ],
)  # fmt: skip
def test_what_repeats_a_text_is_no_loss(value: Any, lost: bool) -> None:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    assert counted([{"messages": turns, "conversations": value}])["conversations"].loss == lost
