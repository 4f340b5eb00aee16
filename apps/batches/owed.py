"""How a control worker takes a batch for itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError, connection
from django.db.models import QuerySet

from apps.batches.models import Batch
from apps.core import leases
from apps.core.owner import owner

LOOK_AT = 20  # batches that others may hold already
REST_SECONDS = 15.0

_resting: dict[int, float] = {}  # batches whose work has just failed -> monotonic time of their next turn here


@contextmanager
def next_owed(batches: QuerySet[Batch], keeper: leases.Keeper) -> Iterator[tuple[Batch, leases.Held] | None]:
    """The first of these batches that nobody works on, leased until the block ends; None when there is none.

    A batch whose block raised has its next turn after the others.
    """
    for pk in _candidates(batches):
        with connection.cursor() as cursor:
            held = leases.claim(cursor, f"batch:{pk}", owner())
        if held is None:
            continue
        keeper.add(held)
        try:
            # Whoever had it a moment ago may have done the work.
            batch = batches.select_related("project", "created_by", "model").filter(pk=pk).first()
            if batch is not None:
                yield batch, held
                return
        except (OperationalError, InterfaceError):
            raise  # the database is away, which is not the batch's fault
        except Exception:
            _resting[pk] = time.monotonic() + REST_SECONDS
            raise
        finally:
            keeper.remove(held)
            with connection.cursor() as cursor:
                leases.release(cursor, held)
    yield None


def _candidates(batches: QuerySet[Batch]) -> list[int]:
    now = time.monotonic()
    resting = [pk for pk, until in _resting.items() if until > now]
    waiting = batches.exclude(pk__in=resting).order_by("-priority", "id")
    return list(waiting.values_list("pk", flat=True)[:LOOK_AT])
