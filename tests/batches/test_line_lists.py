"""Lists of rows that become files."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from apps.accounts.models import Project
from apps.batches.line_lists import line_list, saved
from apps.batches.models import File

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stored(settings: Any, project: Project) -> Path:
    folder: Path = settings.FILES_DIR / project.uid
    return folder


def test_it_works(project: Project) -> None:
    with line_list() as lines:
        for number in range(3):
            lines.add({"line": number, "message": "one\u2028two"})
        with lines.stored(project, "bad.jsonl") as file, transaction.atomic():
            saved(file)
    kept = File.objects.get()
    assert (lines.count, kept.filename, kept.purpose) == (3, "bad.jsonl", "user_data")
    with kept.content.open("rb") as content:
        text = content.read().decode()
    assert len(text.encode()) == kept.bytes
    assert [json.loads(line) for line in text.splitlines()] == [
        {"line": number, "message": "one\u2028two"} for number in range(3)
    ]


def test_an_empty_one_becomes_no_file(project: Project, stored: Path) -> None:
    with line_list() as lines, lines.stored(project, "bad.jsonl") as file:
        assert saved(file) is None
    assert not File.objects.exists()
    assert not stored.exists()


def test_what_is_not_saved_leaves_no_bytes(project: Project, stored: Path) -> None:
    with line_list() as lines:
        lines.add("a")
        with pytest.raises(ZeroDivisionError), lines.stored(project, "bad.jsonl"), transaction.atomic():
            raise ZeroDivisionError
    assert not list(stored.iterdir())
