"""What tests of a job's files share: a control worker that reads them, and what it wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.core import leases
from apps.models.models import Model
from apps.models.services import register_model
from apps.training.files.validation import CREW, validate_next
from apps.training.models import TrainingJob
from tests.training.tiny import DEMO_MODEL


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    assert CREW.wait(30)
    keeper.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.TRAINING_DIR = tmp_path / "training"
    return tmp_path / "training"


@pytest.fixture
def base(db: None) -> Model:
    """A model with a real tokenizer."""
    return register_model(name="base", path=DEMO_MODEL)


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """There is no trainer, so tokens are estimated, which is quick."""
    settings.TRAINER_PYTHON = Path("/nowhere/python")


def work(keeper: leases.Keeper) -> None:
    """Validate all that waits."""
    while validate_next(keeper):
        assert CREW.wait(60)


def read(job: TrainingJob, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.folder / name).read_bytes().splitlines()]


def rows_of(job: TrainingJob, name: str) -> list[dict[str, Any]]:
    """Without the line numbers of the user's file."""
    rows = read(job, name)
    assert all(row.pop("line") > 0 for row in rows)
    return rows


def told(job: TrainingJob) -> list[str]:
    return list(job.events.order_by("pk").values_list("message", flat=True))
