"""What operators ask of engines; the worker that owns the device obeys within a second."""

from django.db import transaction

from apps.core import bell
from apps.models.models import Engine

OBEYED_IN = (Engine.State.READY, Engine.State.BUSY, Engine.State.ASLEEP)


def order_engine(*, engine: Engine, order: Engine.Order) -> bool:
    """Stop an engine, or put it to sleep. False when it does not run, sleeps already, or its device cannot."""
    able = Engine.objects.filter(pk=engine.pk, state__in=OBEYED_IN)
    if order == Engine.Order.SLEEP:
        able = able.filter(device__can_sleep=True).exclude(state=Engine.State.ASLEEP)
    with transaction.atomic():
        given = able.update(order=order)
        if given:
            bell.ring("gpu")
    return bool(given)
