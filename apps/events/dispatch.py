"""Delivers events to their signals: a duty of the control workers.

At least once, each event by itself: a receiver that raises, or kills the process, costs its event a later attempt and
holds up no other. Events of one object are usually delivered in the order in which they happened; a retry breaks it.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.dispatch import Signal

from apps.core.leases import Keeper
from apps.events.models import Event
from apps.events.signals import SIGNALS

BACK_OFF = tuple(timedelta(seconds=s) for s in (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 86_400))
ATTEMPTS = len(BACK_OFF) + 1
HOLD = timedelta(seconds=60)  # how long an attempt may take before another worker starts the next one
AT_A_TIME = 20  # events that one turn delivers
KEEP = timedelta(days=30)  # how long delivered events can be looked at and replayed
PURGE_AT_A_TIME = 500

INTERRUPTED = "The delivery was started and did not end."

log = logging.getLogger(__name__)


def deliver_due(_keeper: Keeper) -> bool:
    """Deliver the events that are due, up to AT_A_TIME. Whether there was any."""
    for delivered in range(AT_A_TIME):
        if (event := _claim()) is None:
            return delivered > 0
        _deliver(event)
    return True


def purge_old(_keeper: Keeper) -> bool:
    """Delete a bounded number of events that were delivered long ago. Whether there was any."""
    old = Event.objects.filter(delivered_at__lt=Now() - KEEP).order_by("delivered_at")
    deleted, _ = Event.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:PURGE_AT_A_TIME])).delete()
    return deleted > 0


def _claim() -> Event | None:
    """Take the next due event. Its attempt counts from here on, so that one which kills us is not tried for ever."""
    with transaction.atomic():
        event = (
            Event.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("project")
            .filter(next_attempt_at__lte=Now())
            .order_by("next_attempt_at", "id")
            .first()
        )
        if event is not None:
            event.attempts += 1
            Event.objects.filter(pk=event.pk).update(
                attempts=event.attempts,
                next_attempt_at=Now() + HOLD if event.attempts < ATTEMPTS else None,
                last_error=INTERRUPTED,
            )
    return event


def _deliver(event: Event) -> None:
    """Call the receivers outside any transaction: theirs are their own."""
    errors = _send(event)
    if not errors:
        _settle(event, delivered_at=Now(), next_attempt_at=None, last_error="")
        return
    log.warning("Event %s (%s), attempt %d of %d: %s", event.uid, event.type, event.attempts, ATTEMPTS, errors[0])
    again = Now() + BACK_OFF[event.attempts - 1] if event.attempts < ATTEMPTS else None
    _settle(event, next_attempt_at=again, last_error="\n".join(errors))


def _send(event: Event) -> list[str]:
    """What went wrong, a line per receiver. A type that no longer exists has no receivers."""
    try:
        answers = SIGNALS.get(event.type, Signal()).send_robust(
            sender=Event,
            event_id=event.uid,
            project_id=event.project.uid if event.project else None,
            created_at=event.created_at,
            data=event.data,
        )
    except Exception as error:  # Django stumbles over a receiver that raises and has no name
        return [repr(error)]
    return [f"{_name(receiver)}: {answer!r}" for receiver, answer in answers if isinstance(answer, Exception)]


def _settle(event: Event, **values: Any) -> None:
    """Write how the attempt ended, unless the next one has begun since."""
    Event.objects.filter(pk=event.pk, attempts=event.attempts).update(**values)


def _name(receiver: Callable[..., Any]) -> str:
    return f"{receiver.__module__}.{getattr(receiver, '__qualname__', type(receiver).__qualname__)}"
