"""Rows that cannot be worked on: what a case of one says, and how a worker looks at it once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Model as Row

from apps.accounts.models import Project
from apps.batches.models import File
from apps.core import leases
from apps.events import progress
from apps.models import jobs
from apps.models.models import Model
from tests.training.test_work import Host

NONSENSE = KeyError("no such field")


class Engine:
    """One that serves every model of the test, and answers nothing."""

    served = ("test-model",)


class EngineHost(Host):
    engine = Engine()


@dataclass
class World:
    project: Project
    model: Model
    folder: Path
    keeper: leases.Keeper
    patch: pytest.MonkeyPatch

    def break_code(self, name: str) -> None:
        """Where there is nothing that a row could hold, the code itself raises."""

        def broken(*_: Any) -> Any:
            raise NONSENSE

        self.patch.setattr(name, broken)


@dataclass(frozen=True)
class Case:
    make: Callable[[World], Row]
    """A poisoned row."""
    work: Callable[[World], object]
    """One look of a worker at it, to its end."""
    ended: Callable[[Any], str]
    """How the row says that it failed; empty while it is open."""
    told: Callable[[Any], str]
    """What those who watch it are told, while it is open."""


@pytest.fixture
def world(
    project: Project, model: Model, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODELS_DIR = tmp_path / "models"
    keeper = leases.Keeper()
    yield World(project, model, tmp_path, keeper, monkeypatch)
    keeper.close()


def look(duty: Callable[[leases.Keeper], object]) -> Callable[[World], object]:
    return lambda world: duty(world.keeper)


def crewed(duty: Callable[[leases.Keeper], bool], crew: Any) -> Callable[[World], object]:
    def work(world: World) -> None:
        duty(world.keeper)
        for thread in crew._at_work.values():
            thread.join(60)

    return work


def on_gpu(kind: str) -> Callable[[World], object]:
    def work(world: World) -> None:
        for _ in jobs.kind(kind).backlog():
            jobs.kind(kind).run(EngineHost(), world.keeper, 4)  # type: ignore[arg-type]

    return work


def watched(topic: str) -> Callable[[Any], str]:
    """The message of its progress, which pages, event streams and commands show."""

    def told(row: Any) -> str:
        snapshot = progress._topics[topic].snapshot(row.uid)
        assert snapshot
        return str(snapshot["message"])

    return told


def failed_message(row: Any) -> str:
    return str(row.message) if row.status == "failed" else ""


def put_folder_in_place_of(file: File) -> None:
    path = Path(file.content.path)
    path.unlink()
    path.mkdir()
