from celery import current_app, shared_task
from django.db import connection

from apps.core import leases
from apps.core.drain import drain
from apps.core.duties import ControlWorker

CONTROL_SLOTS = ("control:0", "control:1")


@shared_task(name="control.work")
def work(slot: str) -> None:
    """Own a control slot until the worker stops."""
    if slot in CONTROL_SLOTS:
        drain(slot, "control", ControlWorker)


@shared_task(name="core.wake")
def wake() -> None:
    """Ring for control slots that nobody owns. Harmless when sent twice: a slot has one owner."""
    for slot in unowned(CONTROL_SLOTS):
        current_app.send_task("control.work", args=[slot], queue="control", expires=60)


def unowned(slots: tuple[str, ...]) -> list[str]:
    """Those of the slots that have no live lease."""
    with connection.cursor() as cursor:
        leases.free_dead(cursor)
        cursor.execute(
            "SELECT key FROM core_lease WHERE key = ANY(%s) AND expires_at > clock_timestamp()",
            (list(slots),),
        )
        owned = {row[0] for row in cursor.fetchall()}
    return [slot for slot in slots if slot not in owned]
