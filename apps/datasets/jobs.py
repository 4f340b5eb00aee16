"""How a control worker works through a job (an import, a search for duplicates, an export).

What is done is told as it grows; a job that was cancelled stops within a second; one whose worker died is begun again.
So what a job does must leave nothing behind until its last transaction, which is fenced.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.core import bell, leases
from apps.core.crew import Crew
from apps.core.errors import DomainError, Stopped
from apps.core.waiting import with_reasons
from apps.datasets.models import Job
from apps.events import progress

TELL_SECONDS = 0.5

AnyJob = TypeVar("AnyJob", bound=Job)

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Somebody cancelled the job."""


class Work(Generic[AnyJob]):
    """One job under our lease."""

    def __init__(self, job: AnyJob, held: leases.Held, keeper: leases.Keeper, topic: str) -> None:
        self.job, self.topic = job, topic
        self._held, self._keeper = held, keeper
        self._told = 0.0

    def report(self, done: int, total: int | None = None) -> None:
        """Tell watchers, at most twice a second. Raises `Cancelled`, and `Stopped` when the lease is lost."""
        if self._keeper.lost(self._held):
            raise Stopped
        if time.monotonic() - self._told < TELL_SECONDS:
            return
        self._told = time.monotonic()
        values = {"done": done} | ({} if total is None else {"total": total})
        going = type(self.job)._default_manager.filter(pk=self.job.pk, status__in=Job.GOING)
        if not going.filter(cancel_requested_at=None).update(status=Job.Status.RUNNING, **values):
            raise Cancelled
        progress.hint(self.topic, self.job.uid)

    def fence(self) -> None:
        """Call it within the transaction that makes the work true. Raises `leases.Fenced`."""
        with connection.cursor() as cursor:
            leases.fence(cursor, self._held)


class Kind(Generic[AnyJob]):
    """A kind of job: its table, and what is done for one."""

    def __init__(self, topic: str, model: type[AnyJob], perform: Callable[[Work[AnyJob]], None]) -> None:
        """`perform` ends the job with `Job.end`; a `DomainError` that it raises ends it as failed."""
        self.topic, self.model = topic, model
        self._perform = perform
        self.crew = Crew(topic, self._work, self._give_up)

    def duty(self, keeper: leases.Keeper) -> bool:
        return self.crew.take_next(keeper, self.model._default_manager.filter(status__in=Job.GOING))

    def cancel(self, job: AnyJob) -> bool:
        """Stop it within seconds. False when it has ended, or was cancelled before."""
        rows = self.model._default_manager.filter(pk=job.pk, status__in=Job.GOING, cancel_requested_at=None)
        with transaction.atomic():
            changed = rows.update(cancel_requested_at=Now())
            bell.ring("control")
        job.refresh_from_db()
        return bool(changed)

    def _work(self, pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
        job = self.model._default_manager.filter(pk=pk, status__in=Job.GOING).first()
        if job is None:
            return
        work = Work(job, held, keeper, self.topic)
        try:
            work.report(0)
            self._perform(work)
        except Cancelled:
            job.end(Job.Status.CANCELLED, "Cancelled; nothing of it was kept.")
        except DomainError as error:
            job.end(Job.Status.FAILED, error.message)
        finally:
            progress.hint(self.topic, job.uid)

    def _give_up(self, pk: int, why: str) -> None:
        if job := self.model._default_manager.filter(pk=pk, status__in=Job.GOING).first():
            job.end(Job.Status.FAILED, why)
            progress.hint(self.topic, job.uid)


class JobTopic:
    """See `apps.events.progress.Topic`."""

    def __init__(self, kind: Kind[Any]) -> None:
        self._kind = kind

    def authorize(self, who: User | Project, uid: str) -> bool:
        jobs = self._kind.model._default_manager.filter(uid=uid)
        return bool((jobs.of(who) if isinstance(who, Project) else jobs.visible_to(who)).exists())

    def snapshot(self, uid: str) -> progress.Snapshot | None:
        job = self._kind.model._default_manager.filter(uid=uid).first()
        return None if job is None else current(job, self._kind.topic)


def current(job: Any, topic: str) -> progress.Snapshot:
    ((_, snapshot),) = currents([job], topic)
    return snapshot


def currents(jobs: Iterable[AnyJob], topic: str) -> list[tuple[AnyJob, progress.Snapshot]]:
    """Each job with its state; one query for why they wait, however many they are."""
    found = list(jobs)
    return list(
        zip(found, with_reasons([(snapshot_of(job, topic), [f"{topic}:{job.pk}"]) for job in found]), strict=True)
    )


def snapshot_of(job: Any, topic: str) -> progress.Snapshot:
    """For lists: without why it waits."""
    return {
        "id": job.uid,
        "object": f"{topic}.progress",
        "status": job.status,
        "status_label": job.get_status_display(),
        "final": job.status in Job.ENDED,
        "message": job.message,
        "total": job.total,
        "completed": job.done,
        "created_at": int(job.created_at.timestamp()),
        "ended_at": int(job.ended_at.timestamp()) if job.ended_at else None,
    }
