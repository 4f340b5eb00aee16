"""Answers that were produced elsewhere become a column of a run."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports.job import KIND
from apps.datasets.models import Example, Import, Run
from apps.events.models import Event
from tests.datasets.cast import make_run, make_version
from tests.datasets.files import ended, jsonl, upload

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def matrix(project: Project) -> Run:
    return make_run(make_version(project), {"small": ["Paris", "Lima", None]})


def run(matrix: Run, keeper: Keeper, content: str, name: str = "answers.jsonl", **options: Any) -> Import:
    file = upload(matrix.project, content, name)
    job: Import = ended(services.start_answers_import(run=matrix, file=file, **options), keeper, KIND)
    return job


def answers(matrix: Run, position: int = 1) -> list[tuple[Any, ...]]:
    found = matrix.columns.get(position=position).answers.order_by("example__number", "sample")
    return list(found.values_list("example__number", "sample", "text", "error"))


def test_it_works(matrix: Run, keeper: Keeper) -> None:
    rows = [{"custom_id": str(number), "answer": text} for number, text in ((1, "Paris"), (2, "Cusco"), (3, "Accra"))]
    job = run(matrix, keeper, jsonl(rows), label="people")
    assert (job.status, job.message, job.rows) == ("completed", "3 rows imported.", 3)
    assert answers(matrix) == [(1, 0, "Paris", ""), (2, 0, "Cusco", ""), (3, 0, "Accra", "")]
    column = matrix.columns.get(position=1)
    assert (column.label, column.model_name, column.answered, column.failed) == ("people", "", 3, 0)
    facts = matrix.items.order_by("number").values_list("answered", "failed", "differs")
    assert list(facts) == [(2, 0, False), (2, 0, True), (1, 1, False)]
    assert not Event.objects.filter(type="dataset.imported").exists()


def test_rows_name_their_example_in_several_ways(matrix: Run, keeper: Keeper) -> None:
    Example.objects.filter(number=2).update(key="peru")
    rows = [
        {"number": 1, "answer": "a"}, {"custom_id": "peru", "completion": "b"},
        {"prompt": "Capital of Ghana?", "answer": "c"},
    ]  # fmt: skip
    assert run(matrix, keeper, jsonl(rows)).status == "completed"
    assert [text for _, _, text, _ in answers(matrix)] == ["a", "b", "c"]


def test_batch_output_is_understood(matrix: Run, keeper: Keeper) -> None:
    def line(number: int, **response: Any) -> dict[str, Any]:
        return {"id": "x", "custom_id": str(number), "response": {"status_code": 200, **response}, "error": None}

    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in ("Paris", "Paris!")]
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    rows = [
        line(1, body={"choices": choices, "usage": usage}),
        line(2, status_code=400, body={"error": {"message": "Too long."}}),
        {"custom_id": "3", "response": None, "error": {"code": "batch_expired", "message": "It ran out of time."}},
    ]
    assert run(matrix, keeper, jsonl(rows)).status == "completed"
    assert answers(matrix) == [
        (1, 0, "Paris", ""), (1, 1, "Paris!", ""), (2, 0, "", "Too long."), (3, 0, "", "It ran out of time."),
    ]  # fmt: skip
    first = matrix.columns.get(position=1).answers.order_by("example__number", "sample")[0]
    assert (first.finish_reason, first.input_tokens, first.output_tokens) == ("stop", 5, 2)


def test_csv_does_too(matrix: Run, keeper: Keeper) -> None:
    job = run(matrix, keeper, "number;answer\n1;Paris\n2;Lima\n", "answers.csv")
    assert (job.status, len(answers(matrix))) == ("completed", 2)
    assert matrix.columns.get(position=1).label == "answers.csv"


def test_several_answers_to_an_example_are_samples(matrix: Run, keeper: Keeper) -> None:
    run(matrix, keeper, jsonl({"number": 1, "answer": text} for text in "abc"))
    assert [(sample, text) for _, sample, text, _ in answers(matrix)] == [(0, "a"), (1, "b"), (2, "c")]


def test_a_row_for_nobody_stops_all(matrix: Run, keeper: Keeper) -> None:
    rows = jsonl([{"number": 1, "answer": "a"}, {"number": 99, "answer": "b"}, {"prompt": "Who?", "answer": "c"}])
    job = run(matrix, keeper, rows)
    assert job.status == "failed"
    assert job.errors == [
        {"line": 2, "message": "No example of this run is '99'."},
        {"line": 3, "message": "No example of this run is 'Who?'."},
    ]
    assert matrix.columns.count() == 1
    job = run(matrix, keeper, rows, skip_bad=True)
    assert (job.status, job.rows, job.skipped) == ("completed", 1, 2)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer": "a"}, "Say which example is answered"),
        ({"number": True, "answer": "a"}, "Say which example is answered"),
        ({"number": 1}, "The row has no 'answer' that is text."),
        ({"number": 1, "answer": {"a": 1}}, "The row has no 'answer' that is text."),
        ({"number": 10**12, "answer": "a"}, "No example of this run is '1000000000000'."),
        ({"custom_id": "é" * 900, "answer": "a"}, "No example of this run is"),
    ],
)
def test_it_rejects(matrix: Run, keeper: Keeper, row: dict[str, Any], says: str) -> None:
    job = run(matrix, keeper, jsonl([row]))
    assert job.status == "failed"
    assert says in job.errors[0]["message"]


def test_it_rejects_a_flood_for_one_example(matrix: Run, keeper: Keeper) -> None:
    job = run(matrix, keeper, jsonl({"number": 1, "answer": "a"} for _ in range(65)))
    assert (job.status, job.message) == ("failed", "The file holds more than 64 answers to one example.")


def test_it_rejects_a_label_that_nobody_can_read(matrix: Run) -> None:
    file = upload(matrix.project, jsonl([{"number": 1, "answer": "a"}]))
    with pytest.raises(DomainError, match="label"):
        services.start_answers_import(run=matrix, file=file, label="x" * 201)


def test_whatever_a_line_holds_is_no_crash(matrix: Run, keeper: Keeper) -> None:
    shapes: list[Any] = [None, 7, "x", [], {}, {"body": None}, {"body": {"choices": [None, 7]}, "status_code": 200}]
    shapes += [{"body": {"choices": [{"message": {"content": [1, {"text": 2}]}}], "usage": {"prompt_tokens": -1}}}]
    rows = "".join(f"{json.dumps({'custom_id': '1', 'response': shape})}\n" for shape in shapes)
    assert run(matrix, keeper, rows).status == "completed"
