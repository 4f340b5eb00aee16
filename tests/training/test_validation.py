"""A job's files: checked, split, counted; whatever happens in between."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections

from apps.accounts.models import Project
from apps.core import leases
from apps.models.models import Device, Model
from apps.models.slots import Slot
from apps.training.estimates import parameters_of
from apps.training.files import preparing, validation
from apps.training.files.validation import CREW, purge_prepared, validate_next
from apps.training.services import cancel_job, pause_job, resume_job
from tests.training.cast import example, make_file, make_job, preference
from tests.training.validating import base, folder, keeper, read, rows_of, told, uncounted, work

__all__ = ["base", "folder", "keeper", "uncounted"]
pytestmark = pytest.mark.django_db(transaction=True)

LARGE = 2_000  # rows: enough for something to happen in between


def test_it_works(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples, job.valid_examples, job.message) == ("queued", 12, 0, "")
    assert read(job, "train.jsonl") == [{"line": number + 1, **example(number)} for number in range(12)]
    assert [path.name for path in job.folder.iterdir()] == ["train.jsonl"]
    assert told(job)[-2:] == ["Validated 12 training examples, 539 tokens.", job.plan["reason"]]


def test_what_it_takes_is_told_before_it_starts(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    Device.objects.create(slot=Slot.here("cpu").key, name="A processor", memory_bytes=10**9)
    job = make_job(project, base)
    work(keeper)
    job.refresh_from_db()
    assert 134_000_000 < parameters_of(base) < 136_000_000
    assert job.estimate["weights"] == pytest.approx(2 * parameters_of(base), rel=0.3)
    assert job.estimate["total"] == sum(size for part, size in job.estimate.items() if part != "total") > 10**9
    last = job.events.latest("pk")
    assert last.level == "warn"
    assert "the device has 1.0 GB: choose a smaller batch_size" in last.message


def test_a_model_of_an_unknown_kind_has_no_estimate(
    project: Project, model: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    job = make_job(project, model)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.estimate) == ("queued", {})


def test_a_validation_file_is_read_too(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    job = make_job(project, base, validation_file=make_file(project, [example(100)]), options={"validation_share": 0.5})
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples, job.valid_examples) == ("queued", 12, 1)
    assert rows_of(job, "valid.jsonl") == [example(100)]
    assert told(job)[-2].endswith(" tokens, and 1 to validate with.")
    assert "about" in told(job)[-2]


def test_preferences(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, make_file(project, map(preference, range(10))), method="dpo")
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples) == ("queued", 10)
    first = preference(0)
    assert rows_of(job, "train.jsonl")[0] == {
        "input": first["input"],
        "preferred_completion": first["preferred_output"],
        "non_preferred_completion": first["non_preferred_output"],
    }


def test_a_job_that_shall_pause_is_paused_and_goes_on(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    job = make_job(project, base)
    assert pause_job(job=job)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples) == ("paused", 12)
    assert resume_job(job=job)
    assert job.status == "queued"


def test_it_stops_when_the_job_is_cancelled_meanwhile(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base, make_file(project, map(example, range(LARGE))))
    _meanwhile(monkeypatch, lambda: cancel_job(job=job))
    work(keeper)
    job.refresh_from_db()
    assert job.status == "cancelled"
    assert list(job.folder.iterdir()) == []


def test_it_survives_a_take_over(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base)

    def take_over() -> None:
        with connection.cursor() as cursor:
            leases.revoke(cursor, [f"training-files:{job.pk}"])

    _meanwhile(monkeypatch, take_over)
    assert validate_next(keeper)
    assert CREW.wait(30)
    job.refresh_from_db()
    assert job.status == "validating_files"
    monkeypatch.undo()
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"


def test_it_survives_a_kill(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    """What a killed worker left, however far it came, does no harm and is taken away."""
    job = make_job(project, base, options={"validation_share": 0.25})
    drafts = job.folder / "preparing.left"
    drafts.mkdir(parents=True)
    (drafts / "train.jsonl").write_bytes(b'{"messages"')
    (job.folder / "train.jsonl").write_bytes(b'{"messages": "half')
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples, job.valid_examples) == ("queued", 9, 3)
    assert sorted(path.name for path in job.folder.iterdir()) == ["train.jsonl", "valid.jsonl"]
    assert len(read(job, "train.jsonl")) == 9


def test_it_survives_a_full_disk(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_flush", _full)
        assert validate_next(keeper)
        CREW._at_work[job.pk].join(30)
        assert not validate_next(keeper)  # it rests
    job.refresh_from_db()
    assert (job.status, job.message) == ("validating_files", validation.NO_SPACE)
    assert CREW.wait(30)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.message) == ("queued", "")


def test_prepared_files_go_when_their_job_has_ended(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waiting = (make_job(project, base, options={"validation_share": 0.25}) for _ in range(2))
    work(keeper)
    cancel_job(job=ended)
    (ended.folder / "checkpoint-5").mkdir()
    (ended.folder / "preparing.left").mkdir()
    monkeypatch.setattr(validation, "_last_look", -validation.PAUSE)
    purge_prepared(keeper)
    assert [path.name for path in ended.folder.iterdir()] == ["checkpoint-5"]
    assert sorted(path.name for path in waiting.folder.iterdir()) == ["train.jsonl", "valid.jsonl"]


def _full(file: Any) -> None:
    raise OSError(28, "No space left on device")


def _meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have it happen, on a connection of its own, before the files get their names."""
    real, done = preparing._checked, threading.Event()

    def run() -> None:
        act()
        connections.close_all()

    def checked(*arguments: Any) -> Any:
        rows = real(*arguments)
        if not done.is_set():
            done.set()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        return rows

    monkeypatch.setattr(preparing, "_checked", checked)
