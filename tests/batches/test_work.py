from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.accounts.models import Project
from apps.batches.ledger import Ledger
from apps.batches.models import Batch
from apps.batches.services import pause_batch
from apps.batches.work import BatchKind
from apps.models.jobs import Job
from apps.models.models import Model
from tests.batches.cast import end_line, make_batch, make_running
from tests.batches.test_ledger import take

pytestmark = pytest.mark.django_db(transaction=True)


def only() -> Job:
    (job,) = BatchKind().backlog()
    return job


def test_it_works(project: Project, model: Model) -> None:
    first = make_running(project, model, lines=5)
    second = make_running(project, model, lines=2, priority=7)
    end_line(first, 3)
    jobs = sorted(BatchKind().backlog(), key=lambda job: job.priority)
    assert [(job.kind, job.model_id, job.waiting, job.priority) for job in jobs] == [
        ("batches", model.pk, 4, 0),
        ("batches", model.pk, 2, 7),
    ]
    assert [(job.since, job.deadline) for job in jobs] == [
        (batch.in_progress_at, batch.expires_at) for batch in (first, second)
    ]


def test_nothing_waits_that_may_not_run(project: Project, model: Model) -> None:
    make_batch(project)  # not validated
    pause_batch(batch=make_running(project, model))
    late = make_running(project, model)
    Batch.objects.filter(pk=late.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    done = make_running(project, model, lines=1)
    end_line(done, 1)
    assert BatchKind().backlog() == []


def test_what_a_live_worker_holds_does_not_wait(project: Project, model: Model) -> None:
    make_running(project, model, lines=3)
    ledger = Ledger()
    take(ledger, model)
    ledger.close()
    assert BatchKind().backlog() == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET expires_at = clock_timestamp() - interval '1 ms'")
    assert only().waiting == 3


def test_adapters_wait_for_their_base(project: Project, model: Model) -> None:
    adapter = Model.objects.create(name="adapter", path=model.path, base=model, runner=model.runner)
    make_running(project, model, lines=1)
    make_running(project, adapter, lines=2)
    assert sorted((job.model_id, job.waiting) for job in BatchKind().backlog()) == [(model.pk, 1), (model.pk, 2)]


def test_a_deleted_model_s_lines_wait_for_nobody(project: Project, model: Model) -> None:
    make_running(project, model)
    model.delete()
    assert BatchKind().backlog() == []
