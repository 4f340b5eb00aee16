import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import Project
from apps.batches.models import File
from apps.core.leases import Keeper
from apps.datasets.imports.console import wait_for
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Example, Import
from tests.datasets.files import jsonl, work_on

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nCapital of France?,Paris\nCapital of Peru?,Lima\n")
    return path


def start(*arguments: Any) -> Import:
    output = StringIO()
    call_command("import_dataset", *map(str, arguments), stdout=output)
    return Import.objects.get(uid=output.getvalue().strip())


def test_it_works(project: Project, file: Path, keeper: Keeper, capfd: pytest.CaptureFixture[str]) -> None:
    mapping = ["--map", "prompt=Q: {{ question }} = ?", "--map", "reference={{ answer }}"]
    job = start(file, "--dataset", "capitals", *mapping)
    assert (job.dataset.name, job.dataset.project, job.shape) == ("capitals", project, "columns")
    work_on(KIND, keeper)
    wait_for(job)
    assert (job.status, job.rows) == ("completed", 2)
    assert Example.objects.get(number=2).prompt == "Q: Capital of Peru? = ?"


def test_a_dataset_that_is_there_gets_another_version(project: Project, file: Path, keeper: Keeper) -> None:
    for arguments in ([], ["--replace"]):
        start(file, "--dataset", "capitals", "--project", project.name, *arguments)
        work_on(KIND, keeper)
    assert list(Dataset.objects.get().versions.values_list("number", "examples")) == [(2, 2), (1, 2)]


def test_it_says_which_rows_are_bad(
    project: Project, tmp_path: Path, keeper: Keeper, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(jsonl([{"prompt": "Hi", "completion": "Ho"}]) + "[bold]nonsense\n")
    job = start(path, "--dataset", "capitals")
    work_on(KIND, keeper)
    with pytest.raises(CommandError, match="is failed: 1 row cannot be used, so nothing was imported"):
        wait_for(job)
    assert re.search(r"2\s+│ This line is not valid JSON", capfd.readouterr().err)
    job = start(path, "--dataset", "capitals", "--skip-bad")
    work_on(KIND, keeper)
    wait_for(job)
    assert (job.rows, job.skipped) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--project", "nobody"], "There is no project 'nobody'. Projects: owner."),
        (["--map", "prompt"], "--map takes FIELD=TEMPLATE, not 'prompt'"),
        (["--map", "prompt={{ qestion }}"], "There is no column 'qestion'"),
        (["--shape", "chat", "--map", "prompt=x"], "A mapping is for the shape 'columns'"),
        (["--dataset", "a\nb"], "A dataset's name has 1 to 100 printable characters"),
    ],
)
def test_it_rejects(project: Project, file: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=re.escape(says)):
        start(file, "--dataset", "capitals", *arguments)
    assert not File.objects.exists()
    assert not Dataset.objects.exists()


def test_it_rejects_a_file_that_is_not_there(project: Project) -> None:
    with pytest.raises(CommandError, match="Cannot read /no/such/file: No such file or directory"):
        start("/no/such/file", "--dataset", "capitals")


def test_it_asks_before_something_is_lost(
    project: Project, tmp_path: Path, keeper: Keeper, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "Hi", "completion": "Ho", "weight": 0, "source": "[bold]web"}
    path.write_text(jsonl([row]) + "nonsense\n[]\n")
    with pytest.raises(CommandError, match=r"'weight' \(weight; 1 row, the first in line 1\).*\(--accept-losses\)"):
        start(path, "--dataset", "capitals", "--skip-bad")
    assert not File.objects.exists()
    job = start(path, "--dataset", "capitals", "--skip-bad", "--accept-losses")
    work_on(KIND, keeper)
    wait_for(job)
    said = capfd.readouterr().err
    assert re.search(r"weight\s+│ not used \(weight elsewhere\)\s+│ 1 ", said)
    assert re.search(r"source\s+│ kept with the row as it came\s+│ 1 ", said)
    assert "2 reasons" in said
