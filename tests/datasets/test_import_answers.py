"""Answers that were produced elsewhere become a column of a run."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.batches.answers import Said
from apps.core.errors import DomainError
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports import answers as answering
from apps.datasets.imports.job import KIND
from apps.datasets.models import Example, Import, Run
from apps.events.models import Event
from tests.datasets.cast import make_run, make_version
from tests.datasets.files import ended, jsonl, upload
from tests.datasets.packed import zipped

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def matrix(project: Project) -> Run:
    return make_run(make_version(project), {"small": ["Paris", "Lima", None]})


def run(matrix: Run, keeper: Keeper, content: bytes | str, name: str = "answers.jsonl", **options: Any) -> Import:
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


def test_a_response_that_is_text_is_an_answer(matrix: Run, keeper: Keeper) -> None:
    rows = [
        {"custom_id": "1", "response": "Paris"}, {"custom_id": "2", "answer": None, "completion": "Lima"},
        {"custom_id": "3", "answer": "Accra", "response": "Accra"},
    ]  # fmt: skip
    assert run(matrix, keeper, jsonl(rows)).status == "completed"
    assert [text for _, _, text, _ in answers(matrix)] == ["Paris", "Lima", "Accra"]


def test_what_stands_beside_an_answer_is_kept(matrix: Run, keeper: Keeper) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    rows = [
        {"custom_id": "1", "answer": "Paris", "reasoning_content": "On the Seine.", "finish_reason": "length"},
        {"custom_id": "2", "answer": None, "tool_calls": [call]}, {"custom_id": "3", "refusal": "I will not."},
    ]  # fmt: skip
    job = run(matrix, keeper, jsonl(rows))
    assert {use["use"] for use in job.uses} == {"used"}
    found = matrix.columns.get(position=1).answers.order_by("example__number")
    kept = list(found.values_list("text", "reasoning", "tool_calls", "refusal", "finish_reason"))
    assert kept[0] == ("Paris", "On the Seine.", "", "", "length")
    assert [json.loads(kept[1][2]), kept[2][3]] == [[call], "I will not."]


def test_csv_does_too(matrix: Run, keeper: Keeper) -> None:
    job = run(matrix, keeper, "number;answer\n1;Paris\n2;Lima\n", "answers.csv")
    assert (job.status, len(answers(matrix))) == ("completed", 2)
    assert matrix.columns.get(position=1).label == "answers.csv"


def test_archives_and_arrays_are_read_too(matrix: Run, keeper: Keeper) -> None:
    """Rows of several files have the same lines."""
    array = json.dumps([{"number": 1, "answer": "a"}, {"number": 2, "answer": "b"}, {"number": 9, "answer": "x"}])
    content = zipped(
        {"one.json": array.encode(), "two.jsonl": jsonl([{"number": 3, "answer": "c"}, {"number": 8}]).encode()}
    )
    job = run(matrix, keeper, content, "answers.zip", skip_bad=True)
    assert [text for _, _, text, _ in answers(matrix)] == ["a", "b", "c"]
    assert job.errors == [
        {"line": 2, "message": "two.jsonl: The row has no 'answer' that is text."},
        {"line": 1, "message": "one.json: element 3: No example of this run is '9'."},
    ]


def test_several_answers_to_an_example_are_samples(matrix: Run, keeper: Keeper) -> None:
    run(matrix, keeper, jsonl({"number": 1, "answer": text} for text in "abc"))
    assert [(sample, text) for _, sample, text, _ in answers(matrix)] == [(0, "a"), (1, "b"), (2, "c")]


def keyed(matrix: Run, keys: dict[int, str]) -> None:
    for number, key in keys.items():
        Example.objects.filter(dataset=matrix.dataset, number=number).update(key=key)


def test_the_id_of_a_row_comes_before_the_number_of_an_example(matrix: Run, keeper: Keeper) -> None:
    keyed(matrix, {1: "3", 2: "1", 3: "2"})
    rows = [
        {"custom_id": "1", "answer": "Lima"},
        {"custom_id": 2, "answer": "Accra"},
        {"custom_id": "3", "answer": "P"},
    ]
    job = run(matrix, keeper, jsonl(rows))
    assert answers(matrix) == [(1, 0, "P", ""), (2, 0, "Lima", ""), (3, 0, "Accra", "")]
    assert job.message == (
        "3 rows imported. 3 of the custom_ids may be numbers, too; they were taken as the ids of rows."
    )
    run(matrix, keeper, jsonl({"number": number, "answer": str(number)} for number in (1, "2", 3)))
    assert [text for _, _, text, _ in answers(matrix, 2)] == ["1", "2", "3"]


def test_an_id_that_no_row_has_is_a_number_only_where_numbers_are_no_ids(matrix: Run, keeper: Keeper) -> None:
    keyed(matrix, {1: "0", 2: "1", 3: "peru"})
    rows = jsonl({"custom_id": str(number), "answer": "x"} for number in (1, 2, 3))
    job = run(matrix, keeper, rows, skip_bad=True)
    assert job.errors == [
        {
            "line": 2,
            "message": "No example of this run has the id '2', but number 2 has the id '1': say 'number' for it.",
        }
    ]
    assert [number for number, *_ in answers(matrix)] == [2, 3]


@pytest.mark.parametrize("name", ["custom_id", "number"])
@pytest.mark.parametrize(
    "text", ["003", "+3", "3.0", " 3", "\N{SUPERSCRIPT THREE}", "\N{ARABIC-INDIC DIGIT THREE}", "0", "-3"]
)
def test_only_a_plain_number_is_one(matrix: Run, keeper: Keeper, name: str, text: str) -> None:
    job = run(matrix, keeper, jsonl([{name: text, "answer": "a"}]))
    assert (job.status, job.errors) == ("failed", [{"line": 1, "message": f"No example of this run is {text!r}."}])


def test_what_fits_several_examples_is_a_bad_row(project: Project, keeper: Keeper) -> None:
    matrix = make_run(make_version(project, ["Again?", "Once?", *["Again?"] * 6]), {})
    keyed(matrix, {2: "twin", 4: "twin"})
    rows = [
        {"prompt": "Again?", "answer": "a"}, {"custom_id": "twin", "answer": "b"}, {"prompt": "Once?", "answer": "c"},
    ]  # fmt: skip
    job = run(matrix, keeper, jsonl(rows), skip_bad=True)
    assert [error["message"] for error in job.errors] == [
        "Prompt 'Again?' fits 7 examples of this run, the numbers 1, 3, 4, 5, 6 …: say which with 'number'.",
        "Id 'twin' fits 2 examples of this run, the numbers 2, 4: say which with 'number'.",
    ]
    assert (job.rows, job.skipped, answers(matrix, 0)) == (1, 2, [(2, 0, "c", "")])


def test_examples_outside_of_the_run_are_no_matches(project: Project, keeper: Keeper) -> None:
    matrix = make_run(make_version(project, ["Again?", "Again?", "Other?"]), {})
    keyed(matrix, {1: "twin", 2: "twin", 3: "alone"})
    matrix.items.exclude(number=1).delete()
    rows = jsonl([{"prompt": "Again?", "answer": "a"}, {"custom_id": "twin", "answer": "b"}])
    assert run(matrix, keeper, rows).status == "completed"
    assert answers(matrix, 0) == [(1, 0, "a", ""), (1, 1, "b", "")]
    assert run(matrix, keeper, jsonl([{"custom_id": "alone", "answer": "a"}])).status == "failed"


@pytest.mark.parametrize(
    ("choice", "stored"),
    [
        ({"message": {"content": "4", "reasoning": "2 and 2"}, "finish_reason": "stop"}, Said("4", "2 and 2")),
        ({"message": {"content": "fo"}, "finish_reason": "length"}, Said("fo", finish_reason="length")),
        (
            {"message": {"content": None, "reasoning": "2 and"}, "finish_reason": "length"},
            Said("", "2 and", finish_reason="length"),
        ),
        ({"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}, Said(refusal="I cannot.")),
        (
            {"message": {"tool_calls": [{"id": "c", "function": {"name": "f"}}]}, "finish_reason": "stop"},
            Said(tool_calls='[{"id":"c","function":{"name":"f","arguments":"{}"},"type":"function"}]'),
        ),
        ({"text": "4", "finish_reason": "stop"}, Said("4")),
    ],
)
def test_thinking_is_no_answer(matrix: Run, keeper: Keeper, choice: dict[str, Any], stored: Said) -> None:
    row = {"custom_id": "1", "response": {"status_code": 200, "body": {"choices": [choice]}}, "error": None}
    assert run(matrix, keeper, jsonl([row])).status == "completed"
    column = matrix.columns.get(position=1)
    answer = column.answers.get()
    assert (answer.said, answer.error) == (stored._replace(finish_reason=choice["finish_reason"]), "")
    assert column.incomplete == (1 if answer.incomplete else 0)


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


def test_columns_that_nobody_reads_are_named(matrix: Run, keeper: Keeper) -> None:
    """Unlike those of examples, these rows are not kept."""
    job = run(
        matrix, keeper, jsonl([{"number": 1, "answer": "a", "score": 3, "note": None}, {"number": 2, "answer": "b"}])
    )
    assert [(use["name"], use["use"], use["becomes"], use["rows"]) for use in job.uses] == [
        ("score", "not_used", "", 1), ("number", "used", "which example", 2), ("answer", "used", "answer", 2),
    ]  # fmt: skip


def test_every_row_without_an_example_is_listed(matrix: Run, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "REFRESH_ITEMS", 7)
    rows = [{"number": 1, "answer": "a"}, *({"number": number, "answer": "b"} for number in range(10, 210))]
    job = run(matrix, keeper, jsonl(rows), skip_bad=True)
    assert job.errors_file
    with job.errors_file.content.open("rb") as content:
        assert [json.loads(line)["line"] for line in content] == list(range(2, 202))
    assert [reason["rows"] for reason in job.reasons] == [200]
