"""What is exported here is trained on here, unedited: each format that holds what a method learns from is taken by the
check of training files and by imports, with the same rows and the same conversations.
"""

import json
from typing import Any

import msgspec
import pytest

from apps.accounts.models import Project
from apps.conversations.codecs import detect
from apps.conversations.conversation import Conversation
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.formats.format import Kind
from apps.datasets.exports.services import start_export
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Export, Import
from apps.training.files.rows import Row, check
from apps.training.spec import Method
from tests.datasets.exports import content, drive
from tests.datasets.files import ended, jsonl, upload

pytestmark = pytest.mark.django_db(transaction=True)

BRIEF = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "Warm in Orn? \u2028 caf\u00e9 \U0001f600"}
SAY, WORSE = {"role": "assistant", "content": "No."}, {"role": "assistant", "content": "Yes."}
CALL = {"id": "c1", "type": "function", "function": {"name": "t", "arguments": '{"a":1}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
CALLED = [ASK, CALLS, {"role": "tool", "tool_call_id": "c1", "content": "3"}]
TOOLS = [{"type": "function", "function": {"name": "t", "parameters": {"type": "object", "properties": {}}}}]
ASKED: list[dict[str, Any]] = [
    {"messages": [ASK]},
    {"messages": [BRIEF, ASK]},
    {"messages": [ASK, SAY, ASK]},
    {"messages": CALLED, "tools": TOOLS},
    {"messages": [{**ASK, "content": [{"type": "text", "text": "Warm"}, {"type": "text", "text": "in Orn?"}]}]},
    {"messages": [ASK], "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [ASK, {**WORSE, "weight": 0}, ASK]},
]
"""Up to the question, with what stands beside."""
ANSWERS: list[dict[str, Any]] = [SAY, {**SAY, "reasoning_content": "Far north."}, CALLS]
METHODS: dict[str, Method] = {Kind.ANSWERS: "sft", Kind.PAIRS: "dpo", Kind.LABELS: "kto"}
CHOICES = {"sft": "reference", "dpo": "reference_pairs", "kto": "reference_labels"}
TRAINED = [
    (name, METHODS[kind]) for name, chosen in FORMATS.items() for kind in chosen.kinds if chosen.suffix == ".jsonl"
]


def with_answers(asked: dict[str, Any], answer: dict[str, Any], method: Method) -> dict[str, Any]:
    messages, beside = asked["messages"], {key: value for key, value in asked.items() if key != "messages"}
    if method == "sft":
        return {"messages": [*messages, answer], **beside}
    return {"prompt": messages, "chosen": [answer], "rejected": [WORSE], **beside}


def imported(project: Project, keeper: Keeper, raw: bytes | str, name: str, **how: Any) -> tuple[Dataset, Import]:
    dataset = services.create_dataset(project=project, name=name)
    job: Import = ended(services.start_import(dataset=dataset, file=upload(project, raw), **how), keeper, KIND)
    assert (job.status, job.skipped) == ("completed", 0), (job.message, job.errors)
    return dataset, job


def exported(dataset: Dataset, name: str, method: Method) -> Export:
    export = drive(start_export(dataset=dataset, format=name, answers=CHOICES[method]))
    assert export.status == Export.Status.COMPLETED, export.message
    return export


def plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def turns(*sides: Any) -> list[dict[str, Any]]:
    """As a training file has them, without what is said there by place: that a prompt's answers are not learned."""
    found = [turn for side in sides for turn in plain(side)]
    for turn in found:
        turn.pop("weight", None)
    return found


def of_row(row: Row) -> Any:
    if "messages" in row:
        return turns(row["messages"])
    if "input" not in row:
        return row
    sides = [row[name] for name in ("preferred_completion", "non_preferred_completion", "completion") if name in row]
    return [turns(row["input"]["messages"]), *map(turns, sides), row.get("label")]


def of_conversation(made: Conversation, method: Method) -> Any:
    if method == "sft":
        return turns(made.messages, made.chosen)
    sides = [turns(side) for side in (made.chosen, made.rejected) if side]
    return [turns(made.messages), *sides, bool(made.chosen) if method == "kto" else None]


def test_every_method_is_tried() -> None:
    assert {method for _, method in TRAINED} == {"sft", "dpo", "kto"}
    assert len(TRAINED) >= 9


@pytest.mark.parametrize(("name", "method"), TRAINED)
def test_it_works(project: Project, keeper: Keeper, name: str, method: Method) -> None:
    rows = [with_answers(asked, answer, method) for asked in ASKED for answer in ANSWERS]
    dataset, _ = imported(project, keeper, jsonl(rows), "rows")
    export = exported(dataset, name, method)
    lines = content(export).splitlines()
    assert len(lines) == export.rows > 0
    unused: set[str] = set()
    checked = [check(line, method, unused) for line in lines]
    assert unused <= {"messages[].weight"}

    codec = detect([json.loads(line) for line in lines])
    assert codec
    read = [codec.read(json.loads(line), set()) for line in lines]
    if name == "prompt_completion":
        assert [(row["prompt"], row["completion"]) for row in checked] == [
            (made.messages[0].content, made.chosen[0].content) for made in read
        ]
    else:
        assert [of_row(row) for row in checked] == [of_conversation(made, method) for made in read]
        beside = [plain(row.get("tools") or row.get("input", {}).get("tools", ())) for row in checked]
        assert beside == [plain(made.tools) for made in read]

    again, job = imported(project, keeper, content(export), "again", accept_losses=True)
    assert (job.rows, job.shape) == (export.rows, codec.name)
    assert not [use for use in job.uses if use["loss"]]
    if method != "kto":  # whose thumbs up and down to one prompt become pairs
        assert sorted(content(exported(again, name, method)).splitlines()) == sorted(lines)


@pytest.mark.parametrize("method", CHOICES)
def test_plain_rows_are_left_out_of_no_format(project: Project, keeper: Keeper, method: Method) -> None:
    """Texts alone can be held by all."""
    asked: list[dict[str, Any]] = [{"messages": [{**ASK, "content": f"{n}?"}]} for n in range(6)]
    rows = [with_answers(each, SAY, method) for each in asked]
    dataset, _ = imported(project, keeper, jsonl(rows), "rows")
    for name in [each for each, of in TRAINED if of == method]:
        export = exported(dataset, name, method)
        assert export.rows == (12 if method == "kto" else 6)
        assert len([check(line, method) for line in content(export).splitlines()]) == export.rows
