"""Rows as people have them, through an import and an export: what they say comes out, whole and in its place."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.exports.services import start_export
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Export, Import
from tests.datasets.exports import drive, lines
from tests.datasets.files import ended, jsonl, upload

pytestmark = pytest.mark.django_db(transaction=True)

ANSWER = {"role": "assistant", "content": "No."}
WARM = {"role": "user", "content": "Warm in Orn?"}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "t", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }
]


def call(id_: str, name: str = "t", arguments: str = '{"a":1}') -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def imported(project: Project, keeper: Keeper, *rows: dict[str, Any]) -> Dataset:
    dataset = services.create_dataset(project=project, name="rows")
    job = ended(services.start_import(dataset=dataset, file=upload(project, jsonl(rows))), keeper, KIND)
    assert job.status == Import.Status.COMPLETED, (job.message, job.errors)
    return dataset


def exported(dataset: Dataset, chosen: str, answers: str = "") -> list[Any]:
    export = drive(start_export(dataset=dataset, format=chosen, answers=answers))
    assert export.status == Export.Status.COMPLETED, export.message
    return lines(export)


def test_it_works(project: Project, keeper: Keeper) -> None:
    row = {"messages": [WARM, ANSWER]}
    assert exported(imported(project, keeper, row), "chat") == [row]


def test_a_bad_answer_is_not_learned(project: Project, keeper: Keeper) -> None:
    rows = [
        {"prompt": "Is coal white?", "completion": "Yes.", "label": False},
        {"prompt": "Is snow white?", "completion": "Yes, it is.", "label": True},
    ]
    dataset = imported(project, keeper, *rows)
    assert [line["messages"][-1]["content"] for line in exported(dataset, "chat")] == ["Yes, it is."]
    told = exported(dataset, "kto")
    assert [(line["completion"][0]["content"], line["label"]) for line in told] == [
        ("Yes.", False), ("Yes, it is.", True),
    ]  # fmt: skip


def test_calls_in_turns_of_sharegpt(project: Project, keeper: Keeper) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Warm in Orn?"},
            {"from": "function_call", "value": '{"name":"t","arguments":{"a":1}}'},
            {"from": "observation", "value": "3"}, {"from": "gpt", "value": "No."},
        ],
        "tools": json.dumps(TOOLS, separators=(",", ":")),
    }  # fmt: skip
    dataset = imported(project, keeper, row)
    assert exported(dataset, "chat") == [
        {
            "messages": [
                WARM, {"role": "assistant", "content": None, "tool_calls": [call("call_1")]},
                {"role": "tool", "content": "3", "tool_call_id": "call_1"}, ANSWER,
            ],
            "tools": TOOLS,
        }
    ]  # fmt: skip
    assert exported(dataset, "sharegpt") == [row]


def test_tools_beside_a_pair(project: Project, keeper: Keeper) -> None:
    row = {
        "input": {"messages": [WARM], "tools": TOOLS, "parallel_tool_calls": False},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{"role": "assistant", "content": "Yes."}],
    }
    assert exported(imported(project, keeper, row), "dpo", "reference_pairs") == [row]


def test_earlier_turns_of_alpaca(project: Project, keeper: Keeper) -> None:
    row = {"instruction": "And cold?", "input": "", "output": "Yes.", "system": "", "history": [["Warm?", "No."]]}
    dataset = imported(project, keeper, row)
    said = [message["content"] for message in exported(dataset, "chat")[0]["messages"]]
    assert said == ["Warm?", "No.", "And cold?", "Yes."]
    assert exported(dataset, "alpaca") == [row]


def test_sides_of_several_turns(project: Project, keeper: Keeper) -> None:
    cold = {"role": "user", "content": "And cold?"}
    better, worse = [ANSWER, cold, {"role": "assistant", "content": "Yes."}], [{"role": "assistant", "content": "Hm."}]
    rows = [{"prompt": [WARM], "chosen": better, "rejected": worse}]
    whole = [{"chosen": [WARM, *better], "rejected": [WARM, *worse, cold, *worse]}]
    dataset = imported(project, keeper, *rows, *whole)
    assert exported(dataset, "trl", "reference_pairs") == [
        rows[0], {"prompt": [WARM], "chosen": better, "rejected": [*worse, cold, *worse]},
    ]  # fmt: skip
    export = drive(start_export(dataset=dataset, format="dpo", answers="reference_pairs"))
    assert (export.status, export.rows) == (Export.Status.FAILED, 0)  # OpenAI's sides have one message


def test_a_pair_beside_messages_is_a_pair(project: Project, keeper: Keeper) -> None:
    better, worse = [WARM, ANSWER], [WARM, {"role": "assistant", "content": "Yes."}]
    row = {"prompt": WARM["content"], "messages": better, "chosen": better, "rejected": worse, "score_chosen": 8.0}
    told = exported(imported(project, keeper, row), "trl", "reference_pairs")
    assert told == [{"prompt": [WARM], "chosen": [ANSWER], "rejected": worse[1:]}]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning(project: Project, keeper: Keeper, key: str) -> None:
    dataset = imported(project, keeper, {"messages": [WARM, {**ANSWER, key: "Far north."}]})
    for chosen, place in (("chat", "messages"), ("trl_completion", "completion")):
        assert exported(dataset, chosen)[0][place][-1] == {**ANSWER, "reasoning_content": "Far north."}


def test_arguments_as_objects(project: Project, keeper: Keeper) -> None:
    calls = [{"type": "function", "function": {"name": "t", "arguments": {"a": 1}}}]
    rows = {
        "messages": [
            WARM, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "name": "t", "content": "3"}, ANSWER,
        ],
        "tools": TOOLS,
    }  # fmt: skip
    told = exported(imported(project, keeper, rows), "chat")
    assert told[0]["messages"][1:3] == [
        {"role": "assistant", "content": None, "tool_calls": [call("call_1")]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1", "name": "t"},
    ]
    assert told[0]["tools"] == TOOLS


def test_weights(project: Project, keeper: Keeper) -> None:
    """A last answer of weight 0 is no answer to learn."""
    wrong, right = {"role": "assistant", "content": "Five.", "weight": 0}, {**ANSWER, "weight": 1}
    rows = [{"messages": [WARM, wrong, WARM, right]}, {"messages": [WARM, wrong]}]
    assert exported(imported(project, keeper, *rows), "chat") == rows[:1]


def test_keys_that_are_null(project: Project, keeper: Keeper) -> None:
    nulls = {"name": None, "tool_calls": None, "tool_call_id": None}
    row = {"messages": [{**WARM, **nulls}, {**ANSWER, **nulls}], "tools": None}
    assert exported(imported(project, keeper, row), "chat") == [{"messages": [WARM, ANSWER]}]


def test_settings_of_the_template(project: Project, keeper: Keeper) -> None:
    """TRL takes no null for them: where one row has some, all have."""
    rows: list[dict[str, Any]] = [
        {"messages": [WARM, ANSWER]},
        {"messages": [WARM, ANSWER], "chat_template_kwargs": {"thinking": False}},
    ]
    dataset = imported(project, keeper, *rows)
    told = [line["chat_template_kwargs"] for line in exported(dataset, "trl_completion")]
    assert sorted(told, key=len) == [{}, {"thinking": False}]
    assert sorted(exported(dataset, "chat"), key=len) == rows


def test_what_a_parquet_file_holds_comes_back(project: Project, keeper: Keeper) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [call("c1")]}
    rows: list[dict[str, Any]] = [
        {"messages": [WARM, called, {"role": "tool", "content": "3", "tool_call_id": "c1"}, ANSWER], "tools": TOOLS},
        {"messages": [{**WARM, "name": "Ada"}, {**ANSWER, "reasoning_content": "Far north.", "weight": 1}]},
        {"messages": [WARM, ANSWER], "parallel_tool_calls": False, "chat_template_kwargs": {"thinking": False}},
    ]
    first = imported(project, keeper, *rows)
    export = drive(start_export(dataset=first, format="parquet"))
    assert export.rows == 3
    again = services.create_dataset(project=project, name="again")
    ended(services.start_import(dataset=again, file=export.file, shape="chat"), keeper, KIND)  # type: ignore[arg-type]
    assert sorted(map(json.dumps, exported(again, "chat"))) == sorted(map(json.dumps, exported(first, "chat")))
