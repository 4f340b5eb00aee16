"""Files as Label Studio writes them: tasks with their annotations, and annotations one by one, as JSON, CSV and TSV."""

import csv
import io
import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Import
from tests.datasets.files import ended, upload

pytestmark = pytest.mark.django_db(transaction=True)

ASK = {"role": "user", "content": "Warm in Orn?"}
ABOUT = {
    "annotator": 1, "annotation_id": 7, "created_at": "2026-01-05T10:00:00.000000Z",
    "updated_at": "2026-01-05T10:00:00.000000Z", "lead_time": 12.5,
}  # fmt: skip
PAIR = {"prompt": "Warm in Orn?", "answer1": "Yes.", "answer2": "No."}


def imported(project: Project, keeper: Keeper, content: str, name: str, **how: Any) -> tuple[Dataset, Import]:
    dataset = services.create_dataset(project=project, name="tasks")
    job: Import = ended(
        services.start_import(dataset=dataset, file=upload(project, content, name), **how), keeper, KIND
    )
    assert (job.status, job.skipped) == ("completed", 0), (job.message, job.errors)
    return dataset, job


def said(dataset: Dataset) -> list[tuple[str, str, str]]:
    return list(dataset.examples.order_by("number").values_list("prompt", "reference", "rejected"))


def table(rows: list[dict[str, Any]], delimiter: str) -> str:
    """As Label Studio writes it: columns by name, texts quoted, lists and objects as JSON."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, sorted({name for row in rows for name in row}), delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC
    )
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}
        )
    return out.getvalue()


def file_of(rows: list[dict[str, Any]], form: str) -> tuple[str, str]:
    if form == "json":
        return json.dumps(rows, indent=2), "project-1.json"
    return table(rows, "," if form == "csv" else "\t"), f"project-1.{form}"


@pytest.mark.parametrize("form", ["json", "csv", "tsv"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Warm in Orn?", "answer": "No."}, ("Warm in Orn?", "No.", "")),
        ({"question": "Warm in Orn?", "response": ["No.", "Never."]}, ("Warm in Orn?", "No.\nNever.", "")),
        ({**PAIR, "comparison": [{"selected": "right"}]}, ("Warm in Orn?", "No.", "Yes.")),
        ({**PAIR, "comparison": [{"selected": "left"}], "rating": [{"rating": 4}], "tags": ["format"]},
         ("Warm in Orn?", "Yes.", "No.")),
        ({"messages": [{"role": "system", "content": "Be brief."}, ASK], "answer": "[sic] No."},
         ("Warm in Orn?", "[sic] No.", "")),
        ({"text": "Warm in Orn?", "verdict": "ok", "notes": "Check it."}, ("Warm in Orn?", "", "")),
    ],
)  # fmt: skip
def test_it_works(
    project: Project, keeper: Keeper, form: str, row: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    dataset, job = imported(project, keeper, *file_of([{"id": 3, **row, **ABOUT}], form), accept_losses=True)
    assert (job.shape, said(dataset)) == ("label_studio_min", [expected])
    assert dataset.examples.get().key == "3"
    assert {use["name"] for use in job.uses if use["loss"]} == {"rating"} & row.keys()


def test_a_control_with_the_name_of_a_tasks_column(project: Project, keeper: Keeper) -> None:
    row = {"id": 3, "_data_text": "Warm in Orn?", "text": "A note.", "answer": "No.", **ABOUT}
    dataset, _ = imported(project, keeper, *file_of([row], "csv"), accept_losses=True)
    assert said(dataset) == [("Warm in Orn?", "No.", "")]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_answers_without_a_comparison_are_a_loss(project: Project, form: str) -> None:
    content, name = file_of([{"id": 3, **PAIR, "rating": [{"rating": 4}], **ABOUT}], form)
    seen = services.preview(file=upload(project, content, name))
    assert {each.name for each in seen.losses} == {"answer1", "answer2", "rating"}


def test_a_comparison_of_unknown_columns_is_a_bad_row(project: Project) -> None:
    row = {"id": 3, "prompt": "Warm?", "first": "Yes.", "second": "No.", "comparison": [{"selected": "left"}], **ABOUT}
    seen = services.preview(file=upload(project, json.dumps([row]), "project-1.json"))
    assert "name their columns response_a and response_b" in seen.errors[0].message


def result(kind: str, name: str, **value: Any) -> dict[str, Any]:
    return {"id": "x", "type": kind, "from_name": name, "to_name": "prompt", "origin": "manual", "value": value}


def task(*results: dict[str, Any], data: dict[str, Any], kind: str = "annotations") -> dict[str, Any]:
    annotation = {"id": 7, "completed_by": 1, "result": list(results), "was_cancelled": False, "ground_truth": False}
    return {"id": 3, "data": data, kind: [annotation], "predictions": [], "meta": {}, "total_annotations": 1}


@pytest.mark.parametrize(
    ("row", "expected", "lost"),
    [
        (task(result("textarea", "answer", text=["No."]), data={"prompt": "Warm?"}), ("Warm?", "No.", ""), ""),
        (task(result("textarea", "answer", text=["No."]), data={"prompt": "Warm?"}, kind="completions"),
         ("Warm?", "No.", ""), ""),
        (task(result("pairwise", "comparison", selected="right"), data=PAIR), ("Warm in Orn?", "No.", "Yes."), ""),
        (task(result("pairwise", "comparison", selected="left"), result("textarea", "edit", text=["Yes!"]), data=PAIR),
         ("Warm in Orn?", "Yes!", "No."), ""),
        (task(result("textarea", "notes", text=["Odd."]), data={"prompt": "Warm?"}), ("Warm?", "", ""),
         "annotations[].result[] of the type 'textarea'"),
        (task(result("textarea", "answer", text=["No."]), result("textarea", "other", text=["Maybe."]),
              data={"prompt": "Warm?"}), ("Warm?", "No.", ""), "annotations[].result[] of 'other'"),
        ({"id": 3, "data": {"prompt": "Warm?"}}, ("Warm?", "", ""), ""),
        ({"id": 3, "data": {"prompt": "Warm?"}, "annotations": [{"id": 7, "result": None}]}, ("Warm?", "", ""), ""),
    ],
)  # fmt: skip
def test_tasks(
    project: Project, keeper: Keeper, row: dict[str, Any], expected: tuple[str, str, str], lost: str
) -> None:
    dataset, job = imported(project, keeper, json.dumps([row]), "project-1.json", accept_losses=True)
    assert (job.shape, said(dataset)) == ("label_studio", [expected])
    assert [use["name"] for use in job.uses if use["loss"]] == [lost][: bool(lost)]
