"""What is remembered of engines that did not start, or died, and when a model is left alone for a while."""

import time
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.models.models import Device, EngineDeath, Model

BACK_OFF = (0, 2, 5, 15, 30, 60)  # seconds that a model rests after its first, second … death in a row
BREAKER_DEATHS = 5  # without a known cause …
BREAKER_WINDOW = timedelta(minutes=10)  # … within this time open the breaker …
BREAKER_REST = timedelta(minutes=10)  # … for so long
HOPELESS_REST = timedelta(minutes=1)  # for which a model is not looked at whose files are damaged
LOG_LINES = 200
KEPT = 50  # deaths of a model


class Deaths:
    """One worker's back-off, and the breaker, which all workers share by its row."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._in_a_row: dict[int, int] = {}
        self._rests: dict[int, float] = {}  # model -> monotonic time before which it is not tried again

    def record(self, model: Model, message: str, *, log: list[str], explained: bool, hopeless: bool = False) -> str:
        """Take it down. Returns the message for people, with what happens next.

        `hopeless`: it fails again until somebody does something, so that whoever asks is told at once.
        """
        in_a_row = self._in_a_row[model.pk] = self._in_a_row.get(model.pk, 0) + 1
        self._rests[model.pk] = time.monotonic() + BACK_OFF[min(in_a_row, len(BACK_OFF)) - 1]
        with transaction.atomic():
            EngineDeath.objects.create(
                model=model, device=self._device, explained=explained, message=message, log="\n".join(log[-LOG_LINES:])
            )
            kept = EngineDeath.objects.filter(model=model).values_list("pk", flat=True)[:KEPT]
            EngineDeath.objects.filter(model=model).exclude(pk__in=list(kept)).delete()
            opens = not explained and _is_too_much(model)
            if hopeless:
                Model.objects.filter(pk=model.pk).update(broken_until=Now() + HOPELESS_REST)
            elif opens:
                Model.objects.filter(pk=model.pk).update(broken_until=Now() + BREAKER_REST)
        if not opens:
            return message
        minutes = int(BREAKER_REST.total_seconds() / 60)
        return (
            f"It died too often without a known cause: it is left alone for {minutes} minutes. The last time: {message}"
        )

    def remembers(self, model: Model) -> bool:
        """Whether something is held against it."""
        return model.pk in self._in_a_row or model.broken_until is not None

    def survived(self, model: Model) -> None:
        """Its engine has worked, and lives: nothing is held against it."""
        self._in_a_row.pop(model.pk, None)
        self._rests.pop(model.pk, None)
        if model.broken_until is not None:
            close_breaker(model=model)

    def explain(self, model: Model, *, since: timedelta) -> None:
        """One request was found to be the cause of the last deaths here: they do not count."""
        lately = Q(at__gt=Now() - since)
        EngineDeath.objects.filter(lately, model=model, device=self._device).update(explained=True)

    def rests(self, model_id: int) -> bool:
        return self._rests.get(model_id, 0.0) > time.monotonic()


def close_breaker(*, model: Model) -> None:
    """Let the model be tried again at once."""
    Model.objects.filter(pk=model.pk).update(broken_until=None)
    model.broken_until = None


def is_broken(model: Model) -> bool:
    """Whether its breaker is open."""
    return model.pk in broken_models()


def broken_models() -> set[int]:
    """Those whose breaker is open."""
    return set(Model.objects.filter(broken_until__gt=Now()).values_list("pk", flat=True))


def _is_too_much(model: Model) -> bool:
    """Tried again after the breaker's rest, one more is enough."""
    until = Model.objects.values_list("broken_until", flat=True).get(pk=model.pk)
    if until is not None:
        return until < timezone.now()
    lately = EngineDeath.objects.filter(model=model, explained=False, at__gt=Now() - BREAKER_WINDOW)
    return lately.count() >= BREAKER_DEATHS
