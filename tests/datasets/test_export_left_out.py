"""An export says how many examples it left out, why, and which: by number, id, file and line."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets import items, services
from apps.datasets.exports.services import delete_export, start_export
from apps.datasets.imports.job import KIND
from apps.datasets.models import Answer, Dataset, Example, Export, Item, Review, Star
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.exports import drive, exported, make_split, starred_run
from tests.datasets.files import ended, jsonl, upload

pytestmark = pytest.mark.django_db(transaction=True)


def imported(project: Project, keeper: Keeper, rows: list[dict[str, Any]], **options: Any) -> Dataset:
    dataset = services.create_dataset(project=project, name="metals")
    file = upload(project, "\n" + jsonl(rows), "metals.jsonl")
    job = ended(services.start_import(dataset=dataset, file=file, **options), keeper, KIND)
    assert job.status == "completed", job.message
    return dataset


def asked(question: str, answer: str | None, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}]
    return {"messages": [*turns, *([{"role": "assistant", "content": answer}] if answer else [])], **more}


def listed(export: Export) -> list[dict[str, Any]]:
    assert export.left_out_file
    with export.left_out_file.content.open("rb") as content:
        return [json.loads(line) for line in content]


def test_it_works(project: Project, keeper: Keeper, api: APIClient) -> None:
    """What has no expected answer, and what the format has no place for."""
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "What is it?"}]
    rows = [
        asked("Is coal white?", "No."), asked("Is tin soft?", None, id="tin"),
        {"messages": [{"role": "user", "content": picture}, {"role": "assistant", "content": "Tin."}], "id": "image"},
    ]  # fmt: skip
    dataset = imported(project, keeper, rows)
    export = drive(start_export(dataset=dataset, format="alpaca", answers="reference"))
    assert export.status == Export.Status.COMPLETED
    assert export.message.startswith("2 of 3 examples have an expected answer. 1 of the rows were left out")
    counts = export.manifest["counts"]
    assert (counts["rows"], counts["left_out"], counts["without_answer"], counts["examples"]) == (1, 1, 1, 3)
    assert sum(counts["reasons"].values()) == 2
    unfit, missing = sorted(listed(export), key=lambda line: -line["example"])
    assert missing == {
        "example": 2, "key": "tin", "file": "metals.jsonl", "line": 3,
        "reason": "It has no answer to export: an expected answer.",
    }  # fmt: skip
    assert (unfit["example"], unfit["key"], unfit["line"]) == (3, "image", 4)
    assert unfit["reason"].startswith("The format has no place for what it holds")
    told = api.get(f"/v1/exports/{export.uid}").json()
    body = api.get(f"/v1/files/{told['left_out_file_id']}/content")
    assert len(b"".join(body).splitlines()) == 2


def test_how_many_have_a_gold_star_is_said(project: Project) -> None:
    run = starred_run(project)
    Star.objects.filter(example__number__gt=1).delete()
    export = exported(run, "chat")
    assert export.message == "1 of 3 examples have a gold star."
    assert [line["example"] for line in listed(export)] == [2, 3]


def test_what_is_whole_leaves_no_list(project: Project) -> None:
    export = exported(starred_run(project), "chat")
    assert (export.message, export.left_out_file) == ("", None)
    assert export.manifest["counts"]["reasons"] == {}


def test_only_what_was_asked_for_is_missed(project: Project) -> None:
    """Neither what filters and splits take away, nor what reviewers rejected."""
    run = starred_run(project)
    Star.objects.filter(example__number=3).delete()
    split = make_split(run, ["train", "validation", "validation"])
    export = exported(run, "chat", split=split, part="validation")
    assert export.message == "1 of 2 examples have a gold star."
    Item.objects.filter(run=run, number=3).update(rejected=True)
    assert exported(run, "chat").message == ""


def test_a_column_that_failed_for_some_says_so(project: Project) -> None:
    run = make_run(make_version(project), {"small": ["Paris", None, "Accra"]})
    export = exported(run, "chat", answers="column:small")
    assert export.message == "2 of 3 examples have an answer of small."
    assert [line["example"] for line in listed(export)] == [2]


def test_examples_with_several_pairs_count_once(project: Project) -> None:
    run = make_run(make_version(project), {"a": ["1", "2", "3"], "b": ["x", "2", "y"], "c": ["z", "2", "w"]})
    mia = make_reviewer(project)
    for answer in Answer.objects.filter(column__run=run, column__label="a"):
        Star.objects.create(example_id=answer.example_id, answer=answer, reviewer=mia, shared=True)
    items.refresh_reviews(list(Example.objects.values_list("pk", flat=True)))
    export = exported(run, "dpo", answers="starred_pairs")
    assert export.rows == 4
    assert export.message == "2 of 3 examples have a gold star beside another answer that differs."


def test_the_list_goes_with_the_export(project: Project) -> None:
    run = starred_run(project)
    Star.objects.filter(example__number=1).delete()
    export = exported(run, "chat")
    assert export.left_out_file
    delete_export(export=export)
    assert not project.file_set.exists()


def test_an_example_that_reviewers_rejected_is_not_asked_for(project: Project, keeper: Keeper) -> None:
    dataset = imported(project, keeper, [asked("Is coal white?", "No."), asked("Is tin soft?", None)])
    example = Example.objects.get(number=2)
    Review.objects.create(example=example, reviewer=make_reviewer(project), state=Review.State.REJECTED)
    assert drive(start_export(dataset=dataset, format="chat", answers="reference")).message == ""
