"""The files that a trainer reads, made from a training file."""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.batches.line_lists import line_list
from apps.core.errors import Stopped
from apps.models.models import Model
from apps.training.files.preparing import LOOK_EVERY, prepare
from tests.training.cast import example, make_file, make_job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> None:
    settings.TRAINING_DIR = tmp_path


def test_no_character_breaks_a_line(project: Project, model: Model) -> None:
    rows = [example(number) for number in range(12)]
    rows[3]["messages"][1]["content"] = "one\u2028two\u2029three\x85four\rfive"
    job = make_job(project, model, make_file(project, rows))
    with line_list() as bad_rows:
        assert prepare(job, lambda: None, bad_rows).examples == 12
    written = (job.folder / "train.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == [
        {"line": number, **row} for number, row in enumerate(rows, 1)
    ]


def test_a_file_of_bad_rows_alone_is_let_go_too(project: Project, model: Model) -> None:
    """Whoever cancels the job, or takes it over, is heard among bad rows as among good ones."""
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise Stopped

    job = make_job(project, model, make_file(project, [b"{"] * 10 * LOOK_EVERY))
    with line_list() as bad_rows, pytest.raises(Stopped):
        prepare(job, look, bad_rows)
    assert bad_rows.count == 2 * LOOK_EVERY
