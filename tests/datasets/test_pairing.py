"""Thumbs up and down to one prompt become a pair; what has no partner stays a thumb."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.exports.services import start_export
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Example, Import
from tests.datasets.exports import drive, lines
from tests.datasets.files import ended, jsonl, upload

pytestmark = pytest.mark.django_db(transaction=True)

COAL, TIN = "Is coal white?", "Is tin soft?"
Side = tuple[str, str, str]


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="metals")


def thumb(prompt: str, answer: str, label: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": answer, "label": label, **more}


def run(dataset: Dataset, keeper: Keeper, rows: list[dict[str, Any]], **options: Any) -> Import:
    job: Import = ended(
        services.start_import(dataset=dataset, file=upload(dataset.project, jsonl(rows)), **options), keeper, KIND
    )
    return job


def sides(dataset: Dataset) -> list[Side]:
    return list(dataset.examples.order_by("number").values_list("prompt", "reference", "rejected"))


def test_it_works(dataset: Dataset, keeper: Keeper) -> None:
    """Rows of one prompt with opposite labels."""
    rows = [
        thumb(COAL, "Yes, snow white.", False, id="a", tags=["x"]),
        thumb(COAL, "No, black.", True, tags=["y"], source="web"),
        thumb(TIN, "It is harder than steel.", False),
    ]
    job = run(dataset, keeper, rows)
    assert job.status == "completed"
    assert job.message == "3 rows imported as 2 examples (1 pair of a thumb up with a thumb down)."
    assert sides(dataset) == [(COAL, "No, black.", "Yes, snow white."), (TIN, "", "It is harder than steel.")]
    assert (job.rows, dataset.versions.get().examples) == (3, 2)
    both = Example.objects.get(prompt=COAL)
    assert (both.key, sorted(both.tags), both.line) == ("a", ["x", "y"], 2)
    assert json.loads(both.data) == rows[1] | {"paired_row": rows[0]}
    export = drive(start_export(dataset=dataset, format="chat", answers="reference"))
    assert [line["messages"][-1]["content"] for line in lines(export)] == ["No, black."]
    assert export.message == "1 of 2 examples have an expected answer."


def test_the_first_up_goes_with_the_first_down(dataset: Dataset, keeper: Keeper) -> None:
    rows = [
        thumb(COAL, "bad 1", False), thumb(COAL, "good 1", True), thumb(" is  COAL white?", "good 2", "true"),
        thumb(COAL, "bad 2", 0), thumb(COAL, "bad 3", False), thumb(TIN, "good", True),
    ]  # fmt: skip
    run(dataset, keeper, rows)
    assert [made[1:] for made in sides(dataset)] == [
        ("good 1", "bad 1"), ("good 2", "bad 2"), ("", "bad 3"), ("good", ""),
    ]  # fmt: skip


def test_other_tools_and_other_calls_are_other_prompts(dataset: Dataset, keeper: Keeper) -> None:
    def called(name: str) -> list[dict[str, Any]]:
        call = {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ]

    tools = [{"type": "function", "function": {"name": "f"}}]
    rows: list[dict[str, Any]] = [
        thumb(COAL, "No.", True, tools=tools), thumb(COAL, "Yes.", False),
        {"messages": [*called("f"), {"role": "assistant", "content": "Wet."}], "label": True},
        {"messages": [*called("g"), {"role": "assistant", "content": "Dry."}], "label": False},
    ]  # fmt: skip
    job = run(dataset, keeper, rows, shape="kto")
    assert job.message == "4 rows imported."
    assert [made[1:] for made in sides(dataset)] == [("No.", ""), ("", "Yes."), ("Wet.", ""), ("", "Dry.")]


def test_the_same_answer_is_no_pair_of_itself(dataset: Dataset, keeper: Keeper) -> None:
    run(dataset, keeper, [thumb(COAL, "No.", True), thumb(COAL, "No.", False)])
    assert [made[1:] for made in sides(dataset)] == [("No.", ""), ("", "No.")]


def test_pairs_are_made_within_one_import(dataset: Dataset, keeper: Keeper) -> None:
    run(dataset, keeper, [thumb(COAL, "No.", True)])
    run(dataset, keeper, [thumb(COAL, "Yes.", False), thumb(TIN, "Yes.", True), thumb(TIN, "No.", False)])
    assert [made[1:] for made in sides(dataset)] == [("No.", ""), ("", "Yes."), ("Yes.", "No.")]
    assert list(dataset.versions.order_by("number").values_list("examples", flat=True)) == [1, 3]


def test_rows_without_thumbs_are_never_joined(dataset: Dataset, keeper: Keeper) -> None:
    rows = [{"prompt": COAL, "completion": answer} for answer in ("No.", "Yes.")]
    assert run(dataset, keeper, rows).message == "2 rows imported."
    assert len(sides(dataset)) == 2
