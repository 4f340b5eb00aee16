"""The files that a trainer reads, made from a training file."""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.files.preparing import prepare
from tests.training.cast import example, make_file, make_job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> None:
    settings.TRAINING_DIR = tmp_path


def test_no_character_breaks_a_line(project: Project, model: Model) -> None:
    rows = [example(number) for number in range(12)]
    rows[3]["messages"][1]["content"] = "one\u2028two\u2029three\x85four\rfive"
    job = make_job(project, model, make_file(project, rows))
    assert prepare(job, lambda: None).examples == 12
    written = (job.folder / "train.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == [
        {"line": number, **row} for number, row in enumerate(rows, 1)
    ]
