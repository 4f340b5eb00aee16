"""The duties that end a batch: notice that it is over, write its files, seal it.

Writing the files may happen twice (a worker killed in between); sealing happens once, in one transaction with the file
rows and the event.
"""

from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.batches import storage
from apps.batches.models import Batch, File, Shard
from apps.batches.output import output_lines
from apps.batches.owed import work_on_next
from apps.core import bell, leases
from apps.core.db import connect
from apps.events.services import announce

UNFINISHED = {
    Batch.Status.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Batch.Status.CANCELLED: ("batch_cancelled", "This request was not executed: the batch was cancelled."),
}


def notice_ended(_keeper: leases.Keeper) -> bool:
    """Move batches whose lines have all ended, or whose window has passed, on to finalizing."""
    unfinished = Shard.objects.filter(batch=OuterRef("pk"), lines__gt=F("completed") + F("failed"))
    running = Batch.objects.filter(status=Batch.Status.IN_PROGRESS)
    waiting = Q(status=Batch.Status.VALIDATING) | Q(Exists(unfinished), status=Batch.Status.IN_PROGRESS)
    done = [(batch, Batch.Status.COMPLETED) for batch in running.filter(~Exists(unfinished))]
    late = [(batch, Batch.Status.EXPIRED) for batch in Batch.objects.filter(waiting, expires_at__lte=Now())]
    moved = [batch.advance(Batch.Status.FINALIZING, outcome=outcome) for batch, outcome in done + late]
    return any(moved)


def finalize_next(keeper: leases.Keeper) -> bool:
    """Write and seal one batch that has ended or was cancelled."""
    ending = Q(status=Batch.Status.FINALIZING) | Q(status=Batch.Status.CANCELLING)
    return work_on_next(Batch.objects.filter(ending), keeper, _finalize)


def _finalize(batch: Batch, held: leases.Held) -> None:
    cancelled = batch.status == Batch.Status.CANCELLING
    outcome = Batch.Status(Batch.Status.CANCELLED if cancelled else batch.outcome)
    with transaction.atomic(), connection.cursor() as cursor:
        _stop_workers(cursor, batch.pk)
        if outcome in UNFINISHED:
            _end_unfinished(cursor, batch.pk, *UNFINISHED[outcome])
    files = {"output_file": _write(batch, held, failed=False), "error_file": _write(batch, held, failed=True)}
    with transaction.atomic(), connection.cursor() as cursor:
        leases.fence(cursor, held)
        for file in filter(None, files.values()):
            file.save()
        if batch.advance(outcome, **files):
            announce(type=f"batch.{outcome}", project=batch.project, data={"id": batch.uid})
            bell.ring("control")


def _stop_workers(cursor: Any, batch_id: int) -> None:
    """Whoever still holds a shard is refused from here on: what is written is all that will be."""
    leases.revoke(cursor, [f"shard:{pk}" for pk in Shard.objects.filter(batch=batch_id).values_list("pk", flat=True)])


def _end_unfinished(cursor: Any, batch_id: int, code: str, message: str) -> None:
    """Give every line that never ran its error, and count it."""
    cursor.execute(
        "INSERT INTO batches_result (batch_id, line, custom_id, failed, error_code, error_message, request_id,"
        " attempts, latency_ms, input_tokens, cached_tokens, output_tokens, reasoning_tokens)"
        " SELECT %(batch)s, line, custom_id, true, %(code)s, %(message)s, '', 0, 0, 0, 0, 0, 0 FROM"
        " (SELECT line, custom_id FROM batches_request WHERE batch_id = %(batch)s"
        " EXCEPT SELECT line, custom_id FROM batches_result WHERE batch_id = %(batch)s) AS unfinished"
        " ON CONFLICT (batch_id, line) DO NOTHING",  # a worker may just be writing its last
        {"batch": batch_id, "code": code, "message": message},
    )
    cursor.execute("UPDATE batches_shard SET failed = lines - completed WHERE batch_id = %s", (batch_id,))


def _write(batch: Batch, held: leases.Held, *, failed: bool) -> File | None:
    """The batch's output or error file, not yet saved; None when it would hold no line."""
    name = f"{batch.project.uid}/{batch.uid}.{held.epoch}.{'errors' if failed else 'output'}.jsonl"
    with connect(autocommit=False) as source:
        stored = storage.write(name, output_lines(source, batch, failed=failed))
    if not stored.bytes:
        storage.delete(stored.name)
        return None
    seconds = batch.output_expires_after
    return File(
        project=batch.project,
        filename=f"{batch.uid}_{'error' if failed else 'output'}.jsonl",
        purpose=File.Purpose.BATCH_OUTPUT,
        bytes=stored.bytes,
        sha256=stored.sha256,
        content=stored.name,
        expires_at=timezone.now() + timedelta(seconds=seconds) if seconds else None,
    )
