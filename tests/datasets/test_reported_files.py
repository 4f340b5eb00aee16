"""The files of `tests/cases` that hold rows: what comes out of each is what went in."""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.batches.answers import Said, incomplete
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.exports.services import start_export
from apps.datasets.imports.job import KIND
from apps.datasets.models import Answer, Dataset, Export, Import
from tests.datasets.cast import make_run
from tests.datasets.exports import content, drive, lines
from tests.datasets.files import ended, upload

pytestmark = pytest.mark.django_db(transaction=True)

CASES = Path(__file__).resolve().parent.parent / "cases"


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / name).read_bytes().splitlines()]


def imported(
    project: Project, keeper: Keeper, name: str, raw: bytes | None = None, **how: Any
) -> tuple[Dataset, Import]:
    dataset = services.create_dataset(project=project, name=name)
    file = upload(project, (CASES / name).read_bytes() if raw is None else raw, name)
    job: Import = ended(services.start_import(dataset=dataset, file=file), keeper, KIND)
    return dataset, job


def exported(dataset: Dataset, chosen: str, answers: str = "reference") -> list[Any]:
    export = drive(start_export(dataset=dataset, format=chosen, answers=answers))
    assert export.status == Export.Status.COMPLETED, export.message
    return lines(export)


def through(project: Project, keeper: Keeper, name: str, chosen: str = "chat", answers: str = "reference") -> list[Any]:
    """All rows imported, and what an export says of them."""
    dataset, job = imported(project, keeper, name)
    assert (job.status, job.skipped) == ("completed", 0), (job.message, job.errors)
    return exported(dataset, chosen, answers)


def test_08_separators(project: Project, keeper: Keeper) -> None:
    dataset, _ = imported(project, keeper, "08-line-separators.jsonl")
    ids = list(dataset.examples.order_by("number").values_list("key", flat=True))
    assert ids == [
        "id\u2028LS",
        "id\u2029PS",
        "id\u0085NEL",
        "FS",
    ]
    said = [row["body"]["structured_outputs"]["choice"][0] for row in rows_of("08-line-separators.jsonl")]
    raw = "".join(json.dumps({"prompt": text, "completion": text}) + "\n" for text in said).encode()
    answered, _ = imported(project, keeper, "answered.jsonl", raw)
    text = content(drive(start_export(dataset=answered, format="chat", answers="reference"))).decode()
    assert len(text.splitlines()) == text.count("\n") == 4


def test_16_labels(project: Project, keeper: Keeper) -> None:
    dataset, job = imported(project, keeper, "16-kto-label.jsonl")
    assert list(dataset.examples.order_by("number").values_list("reference", "rejected")) == [
        ("No, black.", "Yes, snow white."), ("", "It is harder than steel."),
    ]  # fmt: skip
    assert "1 pair of a thumb up with a thumb down" in job.message
    assert [row["messages"][-1]["content"] for row in exported(dataset, "chat")] == ["No, black."]
    assert [row["rejected"][0]["content"] for row in exported(dataset, "trl", "reference_pairs")] == [
        "Yes, snow white."
    ]


def test_17_calls(project: Project, keeper: Keeper) -> None:
    (row,) = through(project, keeper, "17-sharegpt-calls.jsonl")
    _, called, result, said = row["messages"]
    (call,) = called["tool_calls"]
    assert (call["function"], result["role"]) == ({"name": "depth", "arguments": '{"lake":"Orn"}'}, "tool")
    assert call["id"] == result["tool_call_id"]
    assert (result["content"], said["content"]) == ("41", "41 metres.")
    assert row["tools"] == json.loads(rows_of("17-sharegpt-calls.jsonl")[0]["tools"])


def test_17_a_call_that_is_no_json(project: Project, keeper: Keeper) -> None:
    good = rows_of("17-sharegpt-calls.jsonl")[0]
    turns = [
        {**turn, "value": "not json"} if turn["from"] == "function_call" else turn for turn in good["conversations"]
    ]
    raw = "\n".join(map(json.dumps, [good, {**good, "conversations": turns}])).encode()
    _, job = imported(project, keeper, "calls.jsonl", raw)
    assert (job.status, [error["line"] for error in job.errors]) == ("failed", [2])


def test_17c_tools_of_a_pair(project: Project, keeper: Keeper) -> None:
    name = "17c-preference-tools-lost.jsonl"
    assert through(project, keeper, name, "dpo", "reference_pairs") == rows_of(name)


def test_18_history(project: Project, keeper: Keeper) -> None:
    (row,) = through(project, keeper, "18-alpaca-history.jsonl")
    assert [(message["role"], message["content"]) for message in row["messages"]] == [
        ("user", "What hangs in the hall of Orn?"), ("assistant", "A painting of a heron."),
        ("user", "And who painted it?"), ("assistant", "Ines Vall."),
    ]  # fmt: skip


def test_21_ids_that_are_numbers(project: Project, keeper: Keeper) -> None:
    _, job = imported(project, keeper, "21-answers-numeric-ids.jsonl")
    assert job.version
    run = make_run(job.version, {"small": ["a", "b", "c"]})
    file = upload(project, (CASES / "21-answers-numeric-ids.answers.jsonl").read_bytes())
    assert ended(services.start_answers_import(run=run, file=file), keeper, KIND).status == "completed"
    found = Answer.objects.filter(column=run.columns.get(position=1)).values_list("example__reference", "text")
    assert set(found) == {("Pike", "Pike"), ("Alder", "Alder"), ("Heron", "Heron")}
    file = upload(project, '{"custom_id": "003", "answer": "Heron"}\n')
    job = ended(services.start_answers_import(run=run, file=file), keeper, KIND)
    assert (job.status, job.errors[0]["line"]) == ("failed", 1)


def test_22_carriage_returns(project: Project, keeper: Keeper) -> None:
    dataset, _ = imported(project, keeper, "22-cr-header.csv")
    assert list(dataset.examples.values_list("prompt", "reference")) == [("Is tea hot?", "Yes")]


def test_24_turns_of_a_pair(project: Project, keeper: Keeper) -> None:
    whole, parts = rows_of("24-preference-turns.jsonl")
    told = through(project, keeper, "24-preference-turns.jsonl", "trl", "reference_pairs")
    assert told == [
        {"prompt": parts["prompt"], "chosen": whole["chosen"][1:], "rejected": whole["rejected"][1:]}, parts,
    ]  # fmt: skip


def test_24c_a_pair_beside_messages(project: Project, keeper: Keeper) -> None:
    name = "24c-messages-hide-the-pair.jsonl"
    (row,) = rows_of(name)
    told = through(project, keeper, name, "trl", "reference_pairs")
    assert told == [{"prompt": row["messages"][:1], "chosen": row["chosen"][1:], "rejected": row["rejected"][1:]}]


def test_25_thinking_is_no_answer(project: Project, keeper: Keeper) -> None:
    _, job = imported(project, keeper, "q.jsonl", b'{"id": "r1", "prompt": "4 + 4?", "completion": "8"}\n')
    assert job.version
    run = make_run(job.version, {"small": ["8"]})
    file = upload(project, (CASES / "25-thinking-as-answer.jsonl").read_bytes())
    assert ended(services.start_answers_import(run=run, file=file), keeper, KIND).status == "completed"
    answer = Answer.objects.get(column=run.columns.get(position=1))
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "four and four makes", "length")
    assert incomplete(Said(answer.text, answer.reasoning, finish_reason=answer.finish_reason))


def test_27_late_tools(project: Project, keeper: Keeper) -> None:
    """What shows every key stands in the first bytes, from which `datasets` tells the columns."""
    early, late = (CASES / "27-late-tools.jsonl").read_bytes().splitlines()
    dataset, job = imported(project, keeper, "late.jsonl", b"\n".join([early] * 500 + [late]) + b"\n")
    assert job.rows == 501
    told = exported(dataset, "chat")
    assert "tools" in told[0] or "tools" in told[1]
    assert [row for row in told if "tools" in row] == [json.loads(late)]
    assert len(told) == 501


@pytest.mark.parametrize("chosen", ["chat", "trl_completion", "parquet"])
def test_28_reasoning(project: Project, keeper: Keeper, chosen: str) -> None:
    dataset, _ = imported(project, keeper, "28-thinking-lost-on-import.jsonl")
    export = drive(start_export(dataset=dataset, format=chosen, answers="reference"))
    again = services.create_dataset(project=project, name="again")
    ended(services.start_import(dataset=again, file=export.file), keeper, KIND)  # type: ignore[arg-type]
    said = [
        json.loads(text)[0]["reasoning_content"] for text in again.examples.values_list("reference_messages", flat=True)
    ]
    assert sorted(said) == ["an arachnid: 8", "an insect: 6"]


def test_33c_arguments(project: Project, keeper: Keeper) -> None:
    told = through(project, keeper, "33c-arguments-object.jsonl")
    assert len(told) == 10
    for row in told:
        (call,) = row["messages"][1]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"a": 1}
        assert call["id"] == row["messages"][2]["tool_call_id"]


def test_34_weights(project: Project, keeper: Keeper) -> None:
    dataset, job = imported(project, keeper, "34-weight-lost.jsonl")
    assert job.rows == 2
    assert exported(dataset, "chat") == rows_of("34-weight-lost.jsonl")[:1]
    assert dataset.examples.get(number=2).reference == ""


def test_36b_nulls(project: Project, keeper: Keeper) -> None:
    (row,) = through(project, keeper, "36b-null-message-keys.jsonl")
    assert [message.keys() for message in row["messages"]] == [{"role", "content"}] * 2
