"""A hundred thousand rows, one in a hundred of them bad, go from a file to answers, to an export, to a trainer's files:
every bad row is named, and memory stays flat.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from django.core.files.base import ContentFile

from apps.accounts.models import Project
from apps.batches.line_lists import line_list
from apps.batches.services import create_file
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.exports.services import start_export
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Export, Import
from apps.models.models import Model
from apps.training.files.preparing import Invalid, prepare
from tests.datasets import batchwork
from tests.datasets.bad_rows import KINDS, good_row, lines
from tests.datasets.exports import drive
from tests.datasets.files import ended, upload
from tests.training.cast import make_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.soak]

ROWS, EVERY = 100_000, 100
GROWN_MB = 150
TAKEN = ("too many columns", "a blank question")  # by a training file, which has no columns

Made = TypeVar("Made")


def measured(what: str, work: Callable[[], Made]) -> Made:
    """Its result; fails when the process grows by more than `GROWN_MB` while it goes on."""
    process, peak, ended = psutil.Process(os.getpid()), 0, threading.Event()
    before, started = process.memory_info().rss, time.monotonic()

    def look() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        made = work()
    finally:
        ended.set()
        watcher.join()
    grown = (peak - before) / 1e6
    print(f"{what}: {time.monotonic() - started:.1f} s, grew by {grown:.0f} MB at most")
    assert grown <= GROWN_MB, (what, grown)
    return made


def imported(project: Project, keeper: Keeper, content: bytes) -> tuple[Dataset, Import]:
    dataset = services.create_dataset(project=project, name="squares")
    job = services.start_import(dataset=dataset, file=upload(project, content, "squares.jsonl"), skip_bad=True)
    return dataset, ended(job, keeper, KIND)


def listed(job: Import) -> list[dict[str, Any]]:
    assert job.errors_file
    with job.errors_file.content.open("rb") as content:
        return [json.loads(line) for line in content]


def test_it_works(project: Project, model: Model, keeper: Keeper, settings: Any, tmp_path: Path) -> None:
    settings.TRAINING_DIR = tmp_path
    content = b"".join(line for line, _ in lines(ROWS, every=EVERY))
    dataset, job = measured("import", lambda: imported(project, keeper, content))
    bad = ROWS // EVERY
    assert (job.status, job.rows, job.skipped) == ("completed", ROWS - bad, bad), job.message
    assert [error["line"] for error in listed(job)] == list(range(EVERY, ROWS + 1, EVERY))
    assert sum(reason["rows"] for reason in job.reasons) == bad
    assert len(job.reasons) == len({error["message"] for error in listed(job)})
    assert [(use["name"], use["rows"]) for use in job.uses if use["name"] == "messages"] == [("messages", ROWS - bad)]

    export = measured(
        "export", lambda: drive(start_export(dataset=dataset, format="chat", answers="reference"), seconds=600)
    )
    assert (export.status, export.rows) == (Export.Status.COMPLETED, ROWS - bad), export.message
    training = make_job(project, model, export.file)
    with line_list() as bad_rows:
        prepared = measured("training file", lambda: prepare(training, lambda: None, bad_rows))
    assert prepared.examples + prepared.valid_examples + prepared.held_out == ROWS - bad
    assert bad_rows.count == 0


def test_every_bad_row_of_a_training_file_is_named(
    project: Project, model: Model, settings: Any, tmp_path: Path
) -> None:
    settings.TRAINING_DIR = tmp_path
    content = b"".join(line for line, _ in lines(ROWS, every=EVERY))
    file = create_file(project=project, filename="squares.jsonl", purpose="fine-tune", upload=ContentFile(content))
    job = make_job(project, model, file)

    def refused() -> Invalid:
        with pytest.raises(Invalid) as caught:
            prepare(job, lambda: None, bad_rows)
        return caught.value

    with line_list() as bad_rows:
        invalid = measured("training file with bad rows", refused)
        with bad_rows.stored(project, "errors.jsonl") as listed:
            assert listed
            with listed.content.open("rb") as found:
                named = [json.loads(line)["line"] for line in found]
    assert len(invalid.errors) == 100
    kinds = list(KINDS)
    assert named == [
        line for line in range(EVERY, ROWS + 1, EVERY) if kinds[(line // EVERY - 1) % len(kinds)] not in TAKEN
    ]


def test_a_run_over_them(project: Project, model: Model, keeper: Keeper) -> None:
    """Every example is answered, by its number and with its tools."""
    content = b"".join(line for line, _ in lines(ROWS // 10, every=EVERY))
    dataset, job = imported(project, keeper, content)
    assert job.version
    run = batchwork.start(job.version, model)
    batchwork.finish(keeper)
    column = run.columns.get()
    assert (column.answered, column.failed) == (job.rows, 0)
    assert dataset.examples.count() == job.rows


def test_no_two_kinds_are_the_same() -> None:
    assert len(KINDS) == 30
    assert good_row(1) != good_row(2)
