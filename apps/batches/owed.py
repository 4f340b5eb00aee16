"""How a control worker takes a batch for itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.models import QuerySet

from apps.batches.models import Batch
from apps.core import leases
from apps.core.drain import owner

LOOK_AT = 20  # batches that others may hold already


@contextmanager
def next_owed(batches: QuerySet[Batch], keeper: leases.Keeper) -> Iterator[tuple[Batch, leases.Held] | None]:
    """The first of these batches that nobody works on, leased until the block ends; None when there is none."""
    for batch in batches.select_related("project", "created_by", "model").order_by("-priority", "id")[:LOOK_AT]:
        with connection.cursor() as cursor:
            held = leases.claim(cursor, f"batch:{batch.pk}", owner())
        if held is None:
            continue
        keeper.add(held)
        try:
            batch.refresh_from_db()
            yield batch, held
        finally:
            keeper.remove(held)
            with connection.cursor() as cursor:
                leases.release(cursor, held)
        return
    yield None
