"""How a control worker takes a batch for itself."""

from collections.abc import Callable

from django.db import connection, transaction
from django.db.models import QuerySet

from apps.batches.models import Batch
from apps.core import attempts, bell, leases
from apps.events import progress
from apps.events.services import announce

LOOK_AT = 20  # batches that others may hold already


def work_on_next(batches: QuerySet[Batch], keeper: leases.Keeper, work: Callable[[Batch, leases.Held], None]) -> bool:
    """Work on the first of these batches that nobody works on. Whether there was one.

    `work` may raise `Stopped` and `Fenced`. A batch whose work fails has its next turn later, and ends as failed when
    that goes on (`attempts`).
    """
    return any(_try(pk, batches, keeper, work) for pk in _candidates(batches))


def give_up(pk: int, why: str) -> None:
    """The batch ends as failed: the work on it failed too often. What it has of results can still be read."""
    batch = Batch.objects.select_related("project").filter(pk=pk).first()
    if batch is None:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        leases.revoke(cursor, [f"shard:{shard}" for shard in batch.shards.values_list("pk", flat=True)])
        error = {"code": attempts.CODE, "message": why, "line": None, "param": None}
        if batch.advance(Batch.Status.FAILED, errors=[error]):
            announce(type="batch.failed", project=batch.project, data={"id": batch.uid})
            bell.ring("control")
    progress.hint("batch", batch.uid)


def _try(pk: int, batches: QuerySet[Batch], keeper: leases.Keeper, work: Callable[[Batch, leases.Held], None]) -> bool:
    """Whether we had it, and there was something to do."""
    found: list[Batch] = []

    def perform(held: leases.Held) -> None:
        # Whoever had it a moment ago may have done the work.
        found.extend(batches.select_related("project", "created_by", "model").filter(pk=pk))
        for batch in found:
            work(batch, held)

    taken = attempts.work_on(keeper, f"batch:{pk}", perform, lambda why: give_up(pk, why))
    for batch in found:
        progress.hint("batch", batch.uid)
    return taken and bool(found)


def _candidates(batches: QuerySet[Batch]) -> list[int]:
    waiting = attempts.rested(batches, "batch:").order_by("-priority", "id")
    return list(waiting.values_list("pk", flat=True)[:LOOK_AT])
