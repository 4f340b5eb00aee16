"""The outbox: events are rows of the transaction that made them true."""

from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.core.bell import ring
from apps.events.models import Event
from apps.events.signals import SIGNALS


def announce(*, type: str, project: Project | None, data: dict[str, Any]) -> Event:  # noqa: A002 - OpenAI's word
    """Write an event in the caller's transaction; it is delivered after the commit, and never if that rolls back.

    Raises `ValueError` for a type that has no signal.
    """
    if type not in SIGNALS:
        raise ValueError(f"No event is called {type!r}; choose from {', '.join(SIGNALS)}.")
    with transaction.atomic():
        event = Event.objects.create(type=type, project=project, data=data)
        ring("control")
    return event


def replay(*, event: Event) -> None:
    """Deliver an event once more, whatever became of it before. Its id stays the same."""
    with transaction.atomic():
        Event.objects.filter(pk=event.pk).update(delivered_at=None, attempts=0, next_attempt_at=Now(), last_error="")
        ring("control")
