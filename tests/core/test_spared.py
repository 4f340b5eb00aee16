"""What cannot be done for one row, file or folder keeps nothing else from its turn."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.batches.models import File, Request, Shard
from apps.batches.purge import purge_expired_files, purge_orphans
from apps.datasets.models import Judgement, RunBatch
from apps.datasets.runs import collecting, judging
from apps.events import dispatch
from apps.events.models import Event
from apps.events.services import announce
from apps.events.signals import SIGNALS
from apps.models import jobs, removal
from apps.training.files import validation
from tests.batches.cast import make_running
from tests.core.poison import World, put_folder_in_place_of, world
from tests.core.poisoned_datasets import results_to_collect
from tests.datasets import batchwork
from tests.datasets.cast import make_version
from tests.datasets.files import upload

__all__ = ["world"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_judge_that_takes_down_its_reason_with_nul(world: World) -> None:
    """Its answer is text in which JSON may spell any character."""
    assert judging.read_score(json.dumps({"score": 4, "reason": "good\0\ud800"})) == (4, "good\ufffd\ufffd")
    assert Judgement.objects.count() == 0


def test_a_kind_whose_backlog_cannot_be_read_keeps_no_other_from_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def backlog(self) -> list[jobs.Job]:
            raise KeyError("a bug")

    make_running(world.project, world.model, lines=1)
    monkeypatch.setattr(jobs, "_kinds", {"broken": Broken(), **jobs._kinds})
    assert [job.kind for job in jobs.backlog()] == ["batches"]


def test_an_event_that_cannot_be_delivered_is_given_up(world: World) -> None:
    def receiver(**_: Any) -> None:
        raise ValueError("poison")

    SIGNALS["batch.failed"].connect(receiver)
    try:
        event = announce(type="batch.failed", project=world.project, data={"id": "x"})
        for _ in range(dispatch.ATTEMPTS + 3):
            Event.objects.filter(pk=event.pk, next_attempt_at__isnull=False).update(next_attempt_at=event.created_at)
            dispatch.deliver_due(world.keeper)
    finally:
        SIGNALS["batch.failed"].disconnect(receiver)
    event.refresh_from_db()
    assert (event.attempts, event.next_attempt_at) == (dispatch.ATTEMPTS, None)
    assert "poison" in event.last_error


def test_files_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    stuck, other = upload(world.project, "a"), upload(world.project, "b")
    put_folder_in_place_of(stuck)
    (Path(stuck.content.path) / "held").write_text("so that it is not empty")
    File.objects.update(expires_at=stuck.created_at)
    purge_expired_files(world.keeper)
    assert not File.objects.filter(pk__in=[stuck.pk, other.pk]).exists()
    assert not Path(other.content.path).exists()

    monkeypatch.setattr("apps.batches.purge._last_look", -1e9)
    monkeypatch.setattr("apps.batches.purge.ORPHAN_AGE", -60)
    settings.FILES_DIR = world.folder / "files"
    settings.FILES_DIR.mkdir()
    (settings.FILES_DIR / "a-\udcff").write_text("its name is no UTF-8")
    (settings.FILES_DIR / "b").write_text("an orphan")
    purge_orphans(world.keeper)
    assert not (settings.FILES_DIR / "b").exists()


def test_a_folder_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """It does not keep the worker busy, nor other folders where they are."""
    stuck, other = (settings.MODELS_DIR / "a--b" / (name * 40) for name in "12")
    for folder in (stuck, other):
        folder.mkdir(parents=True)
    real = shutil.rmtree

    def rmtree(path: Path, **how: Any) -> None:
        if path != stuck:
            real(path, **how)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert removal.remove_unused_files(world.keeper)
    assert not removal.remove_unused_files(world.keeper)
    assert (stuck.exists(), other.exists()) == (True, False)


def test_prepared_files_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    for name in ("ftjob-1", "ftjob-2"):
        (settings.TRAINING_DIR / name).mkdir(parents=True)
    (settings.TRAINING_DIR / "ftjob-1" / "train.jsonl").mkdir()
    (settings.TRAINING_DIR / "ftjob-2" / "train.jsonl").write_text("{}")
    monkeypatch.setattr(validation, "_last_look", -1e9)
    validation.purge_prepared(world.keeper)
    assert not (settings.TRAINING_DIR / "ftjob-2" / "train.jsonl").exists()


def test_a_run_goes_on_without_what_was_given_up(world: World) -> None:
    """A second run's results are taken over while those of the first one cannot be."""
    results_to_collect(world)
    good = batchwork.start(make_version(world.project, name="rivers"), world.model)
    batchwork.send(world.keeper)
    batchwork.answer([r for r in batchwork.waiting() if r.batch_id == RunBatch.objects.latest("pk").batch_id])
    collecting.collect_answers(world.keeper)
    assert good.columns.get().answered == 3
    assert Shard.objects.count() == 2
    assert Request.objects.count() == 6
