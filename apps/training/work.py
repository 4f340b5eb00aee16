"""Fine-tuning as a kind of GPU work: a trainer on the bare device, in turns, each from the last sealed checkpoint."""

import logging
import queue
import shutil
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models.functions import Now

from apps.core import attempts, bell, leases
from apps.core.process import ProcessGroup
from apps.events import progress
from apps.models.engines.stops import stops_of
from apps.models.jobs import EngineHost, Job
from apps.models.models import Device
from apps.training import endings
from apps.training import options as options_of_training
from apps.training.ledger import Ledger
from apps.training.models import TrainingJob, TrainingJobQuerySet
from apps.training.services import TOPIC, note
from apps.training.spec import Ended, Failed, News, TrainingSpec
from apps.training.trainer import Trainer

PREFIX = "training:"  # of the leases' keys
PATIENCE = timedelta(days=7)
GUESS_SECONDS = 600.0  # of a job, before its first step
TICK = 0.25  # seconds between two looks at the trainer
WRITE_SECONDS = 0.5  # between two writes
LOOK_SECONDS = 1.0  # between two looks at whether the job was cancelled or paused
CANCEL_SECONDS = 1.0  # nothing has to be saved
REAP_SECONDS = 5.0
LOG_LINES = 100

Status = TrainingJob.Status

log = logging.getLogger(__name__)


class TrainingKind:
    """See `apps.models.jobs.Kind`."""

    def backlog(self) -> list[Job]:
        """Jobs that no live worker trains."""
        return attempts.each(_waiting(), PREFIX, _job, _give_up)

    def run(self, host: EngineHost, keeper: leases.Keeper, _window: int) -> None:
        def take_turn(job: TrainingJob, held: leases.Held) -> None:
            _Turn(job, held, host, keeper).go()

        attempts.work_through(_waiting, PREFIX, keeper, take_turn, _give_up, go_on=host.go_on)


def _give_up(pk: int, why: str) -> None:
    with transaction.atomic():
        if job := TrainingJob.objects.exclude(status__in=TrainingJob.ENDED).filter(pk=pk).first():
            endings.fail(job, why, code=attempts.CODE)
            progress.hint(TOPIC, job.uid)


def go_on_where_there_is_room(_keeper: leases.Keeper) -> bool:
    """Jobs that a full disk paused go on once there is room again."""
    paused = TrainingJob.objects.filter(status=Status.PAUSED, error_code="disk_full", cancel_requested_at=None)
    return any(attempts.each(paused.filter(pause_requested_at=None), "room:", _resume_if_room, _give_up))


def _waiting() -> TrainingJobQuerySet:
    return TrainingJob.objects.runnable().unheld().order_by("-priority", "pk")


def _job(job: TrainingJob) -> Job:
    left = max(job.steps - job.step, 1)
    return Job(
        kind="training",
        model_id=None,
        waiting=left,
        priority=job.priority,
        deadline=job.created_at + PATIENCE,
        since=job.created_at,
        seconds=job.seconds / job.step * left if job.step else GUESS_SECONDS,
    )


class _Turn:
    """One trainer, until it ends or the device is wanted elsewhere."""

    def __init__(self, job: TrainingJob, held: leases.Held, host: EngineHost, keeper: leases.Keeper) -> None:
        self._job, self._held, self._host, self._keeper = job, held, host, keeper
        self._ledger = Ledger(job, held)
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._unwritten: list[News] = []
        self._end: Ended | Failed | None = None
        self._began = self._written = self._looked = time.monotonic()
        self._before = job.seconds

    def go(self) -> None:
        """Raises `Fenced`."""
        for group in self._held.left_behind.splitlines():
            ProcessGroup.parse(group).reap(REAP_SECONDS)
        self._begin()
        trainer = Trainer(
            spec_of(self._job, self._host.slot.devices),
            python=settings.TRAINER_PYTHON,
            cwd=settings.BASE_DIR,
            log=log_path(self._job),
            on_news=self._news.put,
        )
        try:
            trainer.start()
            self._record(trainer)
            self._watch(trainer)
        finally:
            trainer.stop(0)
        self._write(trainer, whatever=True)
        self._settle(trainer)

    def _begin(self) -> None:
        device = Device.objects.filter(slot=self._host.slot.key).first()
        changes: dict[str, Any] = {"status": Status.RUNNING, "message": "", "error_code": "", "device": device}
        if self._job.started_at is None:
            changes["started_at"] = Now()
        self._ledger.record([], **changes)
        progress.hint(TOPIC, self._job.uid)

    def _record(self, trainer: Trainer) -> None:
        """Who takes the job or the device over has to reap it first."""
        self._host.record(trainer.group)
        with transaction.atomic(), connection.cursor() as cursor:
            leases.record_process_groups(cursor, self._held, [str(trainer.group)])

    def _watch(self, trainer: Trainer) -> None:
        while trainer.wait(TICK) is None:
            self._write(trainer)
            patience = self._patience()
            if patience is not None:
                trainer.stop(patience)

    def _patience(self) -> float | None:
        """Seconds for the trainer to save and end; None: it may go on."""
        if self._keeper.lost(self._held) or self._is_cancelled():
            return CANCEL_SECONDS
        if self._host.must_stop() or self._job.pause_requested_at or not self._may_stay():
            return self._host.patience()
        return None

    def _may_stay(self) -> bool:
        try:
            return self._host.go_on()
        except (Error, psycopg.Error):
            return True  # the database is away: nobody can have decided otherwise

    def _is_cancelled(self) -> bool:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            with suppress(Error, psycopg.Error):
                self._job.refresh_from_db(fields=["cancel_requested_at", "pause_requested_at"])
        return self._job.cancel_requested_at is not None

    def _write(self, trainer: Trainer, *, whatever: bool = False) -> None:
        """Write what is new, twice a second; while the database is away it is kept, unless it must be written now."""
        if not whatever and time.monotonic() - self._written < WRITE_SECONDS:
            return
        self._written = time.monotonic()
        self._collect()
        seconds = self._before + self._written - self._began
        try:
            self._ledger.record(self._unwritten, seconds=seconds, log="\n".join(trainer.tail(LOG_LINES)))
        except (Error, psycopg.Error) as error:
            if whatever:
                raise
            log.warning("%s: the database is away: %s", self._job.uid, error)
            return
        if self._unwritten:
            progress.hint(TOPIC, self._job.uid)
        self._unwritten = []

    def _collect(self) -> None:
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, Ended | Failed):
                self._end = news
            else:
                self._unwritten.append(news)

    def _settle(self, trainer: Trainer) -> None:
        """What becomes of the job. Killed before this is written, it goes on from its last checkpoint."""
        asked = self._patience() is not None  # and it may have been killed because it took too long
        with transaction.atomic():
            self._ledger.fence()
            endings.settle(self._job, self._end, code=trainer.poll(), asked=asked)
            bell.ring("control")
            bell.ring("gpu")
            progress.hint(TOPIC, self._job.uid)


def spec_of(job: TrainingJob, devices: str) -> TrainingSpec:
    """The order for a trainer on a slot's first device."""
    assert job.base  # noqa: S101 (for mypy: `uses_of` keeps a model that is trained)
    valid = job.folder / "valid.jsonl"
    chat_template = job.base.engine_settings.get("chat_template") or ""
    return TrainingSpec(
        method=job.method,  # type: ignore[arg-type] # the column's choices are the type's
        technique=job.technique,  # type: ignore[arg-type]
        backend="auto",
        model=job.base.path,
        train_file=str(job.folder / "train.jsonl"),
        valid_file=str(valid) if job.valid_examples else "",
        chat_template=chat_template,
        stops=tuple(stops_of(job.base.folder, chat_template)),
        date=job.created_at.isoformat(),
        folder=str(job.folder),
        device=devices.split(",", maxsplit=1)[0],
        options=options_of_training.parse(job.options),
        reserve_bytes=settings.TRAINING_DISK_RESERVE_BYTES,
    )


def log_path(job: TrainingJob) -> Path:
    """Where the trainer's output goes; the one before is NAME.1."""
    return settings.LOG_DIR / f"training.{job.uid}.log"


def _has_room(job: TrainingJob) -> bool:
    """For two checkpoints as large as its largest."""
    job.folder.mkdir(parents=True, exist_ok=True)
    largest = max(job.checkpoints.values_list("bytes", flat=True), default=0)
    return shutil.disk_usage(job.folder).free > settings.TRAINING_DISK_RESERVE_BYTES + 2 * largest


def _resume_if_room(job: TrainingJob) -> bool:
    return _has_room(job) and _resume(job)


def _resume(job: TrainingJob) -> bool:
    with transaction.atomic():
        won = job.advance(Status.QUEUED, message="", error_code="")
        if won:
            note(job, "There is room on the disk again: the job goes on.")
            bell.ring("gpu")
    return won
