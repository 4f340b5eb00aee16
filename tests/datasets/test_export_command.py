"""manage.py export_dataset."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from apps.accounts.models import Project
from apps.datasets.exports.job import KIND
from apps.datasets.models import Export
from tests.datasets.exports import exporter, make_split, starred_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(transactional_db: None) -> Iterator[None]:
    """Exports go on meanwhile."""
    done = threading.Event()

    def work() -> None:
        with exporter() as keeper:
            while not done.wait(0.05):
                KIND.duty(keeper)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join()


def export(*words: str) -> str:
    out = StringIO()
    call_command("export_dataset", *words, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def test_it_works(project: Project, worker: None, tmp_path: Path) -> None:
    run = starred_run(project)
    make_split(run, ["train", "validation", "train"])
    path = tmp_path / "out.jsonl"
    options = ["--format", "chat", "--split", "thirds:train", "--filter", "show=differs", "--output", str(path)]
    said = export("capitals", "--run", "run", *options)
    assert said == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}"
    assert len(path.read_text().splitlines()) == 2
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["filters"], manifest["split"]["part"]) == ({"show": "differs"}, "train")


def test_it_shows_a_bar(project: Project, worker: None, process_env: dict[str, str]) -> None:
    starred_run(project)
    command = [sys.executable, "manage.py", "export_dataset", "capitals", "--run", "run", "--format", "dpo"]
    done = subprocess.run(
        [*command, "--answers", "starred_pairs"], cwd=settings.BASE_DIR, env=os.environ | process_env,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1].startswith("file-")
    assert "2/2" in done.stderr


def test_it_fails_when_the_export_does(project: Project, worker: None) -> None:
    run = starred_run(project)
    run.dataset.examples.update(messages=json.dumps([{"role": "tool", "content": "x"}]))
    with pytest.raises(CommandError, match=r"is failed\. 3 of the rows were left out"):
        export("capitals", "--run", "run", "--format", "sharegpt")


REFUSED: dict[str, Any] = {
    "dataset": (["towns", "--format", "chat"], "There is no dataset 'towns'. Datasets: capitals."),
    "run": (["capitals", "--format", "chat", "--run", "x"], "capitals has no run 'x'. Runs: run."),
    "split": (["capitals", "--format", "chat", "--split", "x"], "capitals has no split 'x'. Splits: none; make one"),
    "filter": (["capitals", "--format", "chat", "--filter", "x"], "--filter takes NAME=VALUE, not 'x'."),
    "folder": (["capitals", "--format", "chat", "--output", "/no/such/x"], "There is no folder /no/such: make it"),
    "nothing": (["capitals", "--format", "chat", "--run", "run", "--answers", "best_rated"], "There is nothing to"),
    "token": (["capitals", "--format", "huggingface", "--run", "run", "--push", "a/b"], "The project has no token"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_rejects(project: Project, case: str) -> None:
    starred_run(project)
    words, sentence = REFUSED[case]
    with pytest.raises(CommandError) as refused:
        export(*words)
    assert str(refused.value).startswith(sentence)
    assert not Export.objects.exists()
