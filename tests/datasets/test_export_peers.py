"""Exports are read by the loaders of LLaMA-Factory and axolotl, which hold the same conversations then.

They are installed anew into a folder of the test's own.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.services import start_export
from apps.datasets.models import Dataset, Example
from tests.datasets.consumers import peers
from tests.datasets.exports import drive
from tests.datasets.test_export_consumers import CALL, TALK, TOOLS, make_late_rows, saved
from tests.training.tiny import DEMO_MODEL

pytestmark = [pytest.mark.soak, pytest.mark.django_db(transaction=True), pytest.mark.timeout(0)]


def exports(dataset: Dataset, formats: dict[str, str], folder: Path) -> list[str]:
    """Of a reader's name for a format and ours: NAME=PATH of each export."""
    found = []
    for reader, name in formats.items():
        answers = "reference" if FORMATS[name].answers else "reference_pairs"
        found.append(f"{reader}={saved(drive(start_export(dataset=dataset, format=name, answers=answers)), folder)}")
    return found


def test_llama_factory_reads_the_same_conversations(project: Project, tmp_path: Path) -> None:
    """Its own converters, installed without what it trains with."""
    peer = peers.install(peers.LLAMA_FACTORY, tmp_path / "peer")
    dataset = make_late_rows(project)
    formats = {"alpaca": "alpaca", "sharegpt": "sharegpt", "sharegpt_pairs": "sharegpt_pairs", "openai": "chat"}
    (seen,) = peers.run("llama_factory", peer, *exports(dataset, formats, tmp_path))
    told = dict(zip(formats, seen, strict=True))
    asked = [{"role": message["role"], "content": message["content"]} for message in TALK[1:]]
    called = [
        *asked, {"role": "function", "content": '{"name":"look_up","arguments":{"of":"France"}}'},
        {"role": "observation", "content": "Paris"},
    ]  # fmt: skip
    yes, no = [{"role": "assistant", "content": "Yes."}], [{"role": "assistant", "content": "No."}]
    assert {"_prompt": asked, "_response": yes, "_system": "Be brief."} in told["alpaca"]
    whole = {"_prompt": called, "_system": "Be brief.", "_tools": json.dumps(TOOLS, separators=(",", ":"))}
    assert {**whole, "_response": yes} in told["sharegpt"]
    assert {**whole, "_response": yes + no} in told["sharegpt_pairs"]
    assert [len(rows) for rows in told.values()] == [14, 15, 15, 18]


def test_axolotl_reads_the_same_conversations(project: Project, tmp_path: Path) -> None:
    """By its own strategies, with a template that has places for calls and reasoning."""
    peer = peers.install(peers.AXOLOTL, tmp_path / "peer")
    dataset = make_late_rows(project)
    short = json.dumps([{"role": "user", "content": "x"}])  # it would look for turns in a megabyte for minutes
    Example.objects.filter(dataset=dataset, number__lte=12).update(messages=short)
    formats = {"chat": "chat", "sharegpt": "sharegpt", "alpaca_system": "alpaca", "pairs": "trl"}
    (seen,) = peers.run("axolotl", peer, DEMO_MODEL, *exports(dataset, formats, tmp_path))
    told = dict(zip(formats, seen, strict=True))
    yes = {"role": "assistant", "content": "Yes."}
    parsed = {**CALL, "function": {"name": "look_up", "arguments": {"of": "France"}}}
    turns = [row["turns"] for row in told["chat"]]
    assert [*TALK, yes] in turns
    assert [*TALK, {"role": "assistant", "tool_calls": [parsed]}, {"role": "tool", "content": "Paris"}, yes] in turns
    assert [row["reasoning_content"] for row in turns_of(told["chat"]) if "reasoning_content" in row] == ["Hm."]
    for name in ("look_up", "add"):
        assert (
            sum(f'<tools>\n{{"type": "function", "function": {{"name": "{name}"' in row["text"] for row in told["chat"])
            == 1
        )
    assert {row["learned"].count("Yes.") for row in told["chat"]} == {1}
    talk = [{**message, "role": message["role"]} for message in (*TALK, yes)]
    assert talk in [row["turns"] for row in told["sharegpt"]]
    assert {row["learned"].partition("<")[0] for row in told["alpaca_system"]} == {"Yes."}
    assert any("Be brief." in row["text"] for row in told["alpaca_system"])
    (pair,) = [row for row in told["pairs"] if "Be brief." in row["prompt"] and "Paris" not in row["prompt"]]
    assert all(message["content"] in pair["prompt"] for message in TALK)
    assert {(row["chosen"], row["rejected"]) for row in told["pairs"]} == {("Yes.<|im_end|>", "No.<|im_end|>")}
    assert [len(rows) for rows in told.values()] == [18, 15, 14, 18]


def turns_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [turn for row in rows for turn in row["turns"]]
