"""A file's rows become examples of a new version: all of them, or none."""

import json
import threading
import time
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from apps.accounts.models import Project
from apps.core import leases
from apps.core.errors import DomainError
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports import job as importing
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Example, Import, Version
from apps.events.models import Event
from tests.datasets.files import ended, jsonl, upload, work_on
from tests.datasets.packed import zipped

pytestmark = pytest.mark.django_db(transaction=True)

PAIRS = [("Capital of France?", "Paris"), ("Capital of Peru?", "Lima"), ("Capital of Ghana?", "Accra")]


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="capitals")


def rows(pairs: list[tuple[str, str]]) -> str:
    return jsonl({"prompt": question, "completion": answer} for question, answer in pairs)


def start(dataset: Dataset, content: str | bytes, name: str = "rows.jsonl", **options: Any) -> Import:
    return services.start_import(dataset=dataset, file=upload(dataset.project, content, name), **options)


def run(dataset: Dataset, keeper: Keeper, content: str | bytes, name: str = "rows.jsonl", **options: Any) -> Import:
    job: Import = ended(start(dataset, content, name, **options), keeper, KIND)
    return job


def test_it_works(dataset: Dataset, keeper: Keeper) -> None:
    job = run(dataset, keeper, rows(PAIRS))
    assert (job.status, job.message, job.rows, job.shape) == ("completed", "3 rows imported.", 3, "completion")
    assert job.done == job.total > 0
    version = dataset.versions.get()
    assert (version.number, version.examples, job.version) == (1, 3, version)
    example = Example.objects.of_version(version).get(number=2)
    assert (example.prompt, example.reference) == ("Capital of Peru?", "Lima")
    assert json.loads(example.messages) == [{"role": "user", "content": "Capital of Peru?"}]
    assert json.loads(example.data) == {"prompt": "Capital of Peru?", "completion": "Lima"}
    event = Event.objects.get(type="dataset.imported")
    assert (event.data, event.project) == ({"id": job.uid}, dataset.project)


def test_an_archive_says_what_is_read_and_tags_its_splits(dataset: Dataset, keeper: Keeper) -> None:
    files = {
        "README.md": b"#",
        "data/test.jsonl": rows(PAIRS[:1]).encode(),
        "data/train.jsonl": rows(PAIRS[1:]).encode(),
    }
    content = zipped(files)
    seen = services.preview(file=upload(dataset.project, content, "rows.zip"))
    assert seen.notes == [
        "Rows are read from 'data/train.jsonl', 'data/test.jsonl'.", "Their splits: train, test.",
        "Not read: 'README.md'.",
    ]  # fmt: skip
    assert [draft.conversation.tags for draft in seen.drafts] == [("train",), ("train",), ("test",)]
    job = run(dataset, keeper, content, "rows.zip")
    assert (job.status, job.format, job.message) == ("completed", "zip", " ".join(["3 rows imported.", *seen.notes]))
    assert list(dataset.examples.values_list("prompt", "tags")) == [
        ("Capital of Peru?", ["train"]), ("Capital of Ghana?", ["train"]), ("Capital of France?", ["test"]),
    ]  # fmt: skip
    assert job.done == job.total == len(content)


def test_errors_name_the_file_and_the_element(dataset: Dataset, keeper: Keeper) -> None:
    bad = [{"prompt": "a", "completion": "b"}, {"prompt": 7, "completion": "b"}]
    files = {"a.jsonl": jsonl(bad).encode(), "b.json": json.dumps({"rows": bad}, indent=1).encode()}
    job = run(dataset, keeper, zipped(files), "rows.zip", skip_bad=True)
    assert [(error["line"], error["message"].partition("'prompt'")[0]) for error in job.errors] == [
        (2, "a.jsonl: "), (7, "b.json: rows: element 2: "),
    ]  # fmt: skip
    assert job.rows == 2


def test_the_tasks_of_label_studio_are_rows(dataset: Dataset, keeper: Keeper) -> None:
    task = {
        "id": 7, "data": {"question": "Capital of France?"}, "predictions": [], "total_annotations": 1,
        "annotations": [{"id": 1, "result": [{"type": "textarea", "value": {"text": ["Paris"]}}]}],
    }  # fmt: skip
    plain = {"id": 8, "question": "Capital of Peru?", "answer": "Lima", "annotator": 1, "lead_time": 2.5}
    mapping = {"prompt": "{{ data.question }}", "reference": "{{ annotations[0].result[0].value.text[0] }}"}
    job = run(dataset, keeper, json.dumps([task], indent=2), "export.json", mapping=mapping, accept_losses=True)
    assert (job.status, job.format) == ("completed", "json"), (job.message, job.errors)
    job = run(dataset, keeper, json.dumps([plain]), "export-min.json", accept_losses=True)
    assert job.status == "completed", (job.message, job.errors)
    assert list(dataset.examples.order_by("number").values_list("key", "prompt", "reference")) == [
        ("7", "Capital of France?", "Paris"), ("8", "Capital of Peru?", "Lima"),
    ]  # fmt: skip


def test_plans_know_of_many_new_rows_at_once(dataset: Dataset, project: Project, keeper: Keeper) -> None:
    """An export right after an import joined all with all: 6,000 rows took minutes."""
    many = [(f"Question {number}?", "Yes.") for number in range(importing.MANY_ROWS)]
    run(dataset, keeper, rows(many))
    run(other := services.create_dataset(project=project, name="other"), keeper, rows(many))
    plan = json.loads(Example.objects.filter(dataset=other).explain(format="json"))
    assert plan[0]["Plan"]["Plan Rows"] > importing.MANY_ROWS / 2


def test_more_rows_make_a_new_version(dataset: Dataset, keeper: Keeper) -> None:
    run(dataset, keeper, rows(PAIRS))
    run(dataset, keeper, rows([("Capital of Mali?", "Bamako")]))
    first, second = dataset.versions.order_by("number")
    assert (first.examples, second.examples) == (3, 4)
    assert [Example.objects.of_version(version).count() for version in (first, second)] == [3, 4]
    assert list(Example.objects.of_version(second).values_list("number", flat=True)) == [1, 2, 3, 4]


def test_rows_take_the_place_of_all_others(dataset: Dataset, keeper: Keeper) -> None:
    run(dataset, keeper, rows(PAIRS))
    run(dataset, keeper, rows([("Capital of Mali?", "Bamako")]), replace=True)
    first, second = dataset.versions.order_by("number")
    assert list(Example.objects.of_version(second).values_list("number", "prompt")) == [(4, "Capital of Mali?")]
    assert (second.examples, Example.objects.of_version(first).count()) == (1, 3)


def test_imports_of_a_dataset_come_one_after_the_other(dataset: Dataset, keeper: Keeper) -> None:
    jobs = [start(dataset, rows([(f"Question {number}?", "Yes.")])) for number in range(4)]
    work_on(KIND, keeper)
    assert [Import.objects.get(pk=job.pk).version.number for job in jobs] == [1, 2, 3, 4]  # type: ignore[union-attr]
    assert list(dataset.examples.order_by("number").values_list("number", "added_in")) == [(n, n) for n in range(1, 5)]


def test_a_bad_row_stops_all(dataset: Dataset, keeper: Keeper) -> None:
    job = run(dataset, keeper, rows(PAIRS) + '{"prompt": 7, "completion": "x"}\nnonsense\n')
    assert job.status == "failed"
    assert job.message.startswith("2 rows cannot be used, so nothing was imported")
    assert [error["line"] for error in job.errors] == [4, 5]
    assert job.errors[0]["message"] == "'prompt' must be text."
    assert not dataset.versions.exists()
    assert not dataset.examples.exists()


def test_bad_rows_can_be_left_out(dataset: Dataset, keeper: Keeper) -> None:
    job = run(dataset, keeper, "nonsense\n" + rows(PAIRS), skip_bad=True)
    assert (job.status, job.message, job.skipped) == ("completed", "3 rows imported, 1 were left out.", 1)
    assert job.errors[0]["line"] == 1


def test_no_more_errors_are_kept_than_people_read(dataset: Dataset, keeper: Keeper) -> None:
    job = run(dataset, keeper, rows(PAIRS) + "x\n" * 500)
    assert (job.status, len(job.errors)) == ("failed", 100)
    job = run(dataset, keeper, rows(PAIRS) + "x\n" * 500, skip_bad=True)
    assert (job.status, len(job.errors), job.skipped) == ("completed", 100, 500)


def test_it_rejects_more_rows_than_allowed(dataset: Dataset, keeper: Keeper, settings: Settings) -> None:
    settings.DATASET_MAX_ROWS = 2
    job = run(dataset, keeper, rows(PAIRS))
    assert (job.status, job.message) == ("failed", "The file holds more than 2 rows: split it.")
    assert not dataset.examples.exists()


def test_it_rejects_a_file_that_was_deleted(dataset: Dataset, keeper: Keeper) -> None:
    job = start(dataset, rows(PAIRS))
    dataset.project.file_set.all().delete()
    assert ended(job, keeper, KIND).message == "The file was deleted."


def test_a_file_of_bad_rows_alone_is_not_called_empty(dataset: Dataset, keeper: Keeper) -> None:
    job = run(dataset, keeper, rows([(" ", "x")] * 3), skip_bad=True)
    assert (job.status, job.skipped) == ("failed", 3)
    assert job.message == "3 rows cannot be used, so nothing was imported."


def test_it_rejects_what_is_seen_at_once(dataset: Dataset) -> None:
    with pytest.raises(DomainError, match="holds no row that can be read"):
        start(dataset, "\n\n")
    with pytest.raises(DomainError, match="There is no shape 'round'"):
        start(dataset, rows(PAIRS), shape="round")
    with pytest.raises(DomainError, match="A mapping is for the shape 'columns'"):
        start(dataset, rows(PAIRS), shape="chat", mapping={"prompt": "{{ prompt }}"})
    assert not Import.objects.exists()


class Pause:
    """Holds an import after its first chunk, until `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copied, self.go = threading.Event(), threading.Event()
        copy = importing._copy
        monkeypatch.setattr(importing, "CHUNK_ROWS", 1)

        def slow(*arguments: Any) -> None:
            copy(*arguments)
            self.copied.set()
            assert self.go.wait(30)

        monkeypatch.setattr(importing, "_copy", slow)


def test_it_shows_how_far_it_is_and_can_be_cancelled(
    dataset: Dataset, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.datasets.jobs.TELL_SECONDS", 0)
    pause, job = Pause(monkeypatch), start(dataset, rows(PAIRS))
    assert KIND.duty(keeper)
    assert pause.copied.wait(30)
    assert dataset.examples.count() == 1  # it is committed, in no version
    assert services.cancel_import(job=job)
    pause.go.set()
    work_on(KIND, keeper)
    job.refresh_from_db()
    assert (job.status, job.message) == ("cancelled", "Cancelled; nothing of it was kept.")
    assert 0 <= job.done < job.total
    assert not dataset.examples.exists()
    assert not services.cancel_import(job=job)


def test_it_survives_a_worker_that_loses_its_lease(
    dataset: Dataset, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, job = Pause(monkeypatch), start(dataset, rows(PAIRS))
    assert KIND.duty(keeper)
    assert pause.copied.wait(30)
    with connection.cursor() as cursor:
        leases.revoke(cursor, [f"import:{job.pk}"])
    pause.go.set()
    deadline = time.monotonic() + 30
    while not Version.objects.exists() and time.monotonic() < deadline:
        work_on(KIND, keeper)
    job.refresh_from_db()
    assert (job.status, job.rows) == ("completed", 3)
    assert list(dataset.examples.values_list("number", "added_in")) == [(1, 1), (2, 1), (3, 1)]


def test_it_survives_a_worker_that_died(dataset: Dataset, keeper: Keeper) -> None:
    job = start(dataset, rows(PAIRS))
    Example.objects.create(
        dataset=dataset, number=1, added_in=1, messages="[]", prompt="left behind", fingerprint=job.uid[7:]
    )
    assert ended(job, keeper, KIND).rows == 3
    assert not dataset.examples.filter(prompt="left behind").exists()
    other = start(dataset, rows(PAIRS))
    Example.objects.create(
        dataset=dataset, number=9, added_in=2, messages="[]", prompt="left behind", fingerprint=job.uid[7:]
    )
    services.cancel_import(job=other)
    assert ended(other, keeper, KIND).status == "cancelled"
    assert dataset.examples.count() == 3


def test_all_bad_rows_are_listed_in_a_file(dataset: Dataset, keeper: Keeper) -> None:
    bad = "".join(f'{{"prompt": {number}, "completion": "x"}}\n' for number in range(300)) + "nonsense\n"
    for skip_bad, status in ((True, "completed"), (False, "failed")):
        job = run(dataset, keeper, rows(PAIRS) + bad, skip_bad=skip_bad)
        assert job.errors_file
        assert (job.status, job.skipped, job.errors_file.filename) == (status, 301, "rows.jsonl.errors.jsonl")
        with job.errors_file.content.open("rb") as content:
            listed = [json.loads(line) for line in content]
        assert [error["line"] for error in listed] == list(range(4, 305))
        assert listed[:100] == job.errors
        assert [(reason["rows"], reason["line"]) for reason in job.reasons] == [(300, 4), (1, 304)]
        assert "2 reasons" in job.message


def test_a_second_try_leaves_one_list(dataset: Dataset, keeper: Keeper) -> None:
    job = start(dataset, rows(PAIRS) + "x\n", skip_bad=True)
    earlier = upload(dataset.project, "{}\n", "rows.jsonl.errors.jsonl")
    Import.objects.filter(pk=job.pk).update(errors_file=earlier)
    assert ended(job, keeper, KIND).errors_file.uid != earlier.uid
    assert dataset.project.file_set.filter(filename="rows.jsonl.errors.jsonl").count() == 1


def test_a_file_without_bad_rows_has_no_list(dataset: Dataset, keeper: Keeper) -> None:
    job = run(dataset, keeper, rows(PAIRS))
    assert (job.errors_file, job.reasons) == (None, [])
