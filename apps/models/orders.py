"""What operators ask of engines; the worker that owns the device obeys within a second."""

from django.db import transaction

from apps.core import bell
from apps.models.models import Engine

OBEYED_IN = (Engine.State.READY, Engine.State.BUSY, Engine.State.ASLEEP)


def order_engine(*, engine: Engine, order: Engine.Order) -> bool:
    """Stop an engine, or put it to sleep. False when it does not run, or sleeps already."""
    able = [state for state in OBEYED_IN if order == Engine.Order.STOP or state != Engine.State.ASLEEP]
    with transaction.atomic():
        given = Engine.objects.filter(pk=engine.pk, state__in=able).update(order=order)
        if given:
            bell.ring("gpu")
    return bool(given)
