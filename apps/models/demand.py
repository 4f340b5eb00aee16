"""People who wait for a model, or talk to one: how whoever answers them asks the GPU workers for its engine.

The protocol. `ask_for` is called once a second while it lasts, with `waiting`

* above zero: so many requests wait for an engine of the model. Some slot gets one ready, before any batch, and the
  waiting see it on its `Engine` row: a state of `Engine.SERVING` on their host, the model's name in `served`.
* zero: its engine is in use by people. It stays for INTERACTIVE_LINGER_SECONDS after the last call.

`withdraw` ends a wait at once. Who died ends it by silence: rows that are STALE_SECONDS old do not count.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Min, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from apps.core import bell
from apps.core.leases import Keeper
from apps.models.jobs import EngineHost, Job
from apps.models.models import Demand, Device, Engine, Model

STALE_SECONDS = 10
FORGOTTEN_SECONDS = 3600

# No engine has the model, or will in a moment, on a slot whose worker lives.
UNSERVED = """
NOT EXISTS (SELECT FROM models_engine e
    JOIN models_device d ON d.id = e.device_id
    JOIN core_lease l ON l.key = d.slot AND l.expires_at > clock_timestamp()
    JOIN models_model m ON m.id = models_demand.model_id
    WHERE e.model_id = coalesce(m.base_id, m.id) AND e.state IN ('starting', 'ready', 'busy')
    AND e.served ? m.name)
"""


def ask_for(*, model: Model, owner: str, waiting: int) -> None:
    """Say that `waiting` requests of `owner` (a process that answers people) want the model's engine; 0: they have it.

    Rings for the workers when the wait begins.
    """
    with transaction.atomic():
        known = Demand.objects.filter(owner=owner, model=model)
        began = waiting > 0 and not known.filter(waiting__gt=0).exists()
        Demand.objects.update_or_create(
            owner=owner,
            model=model,
            defaults={"waiting": waiting, "seen_at": Now(), **({"since": Now()} if began else {})},
        )
        if began:
            bell.ring("gpu")


def withdraw(*, model: Model, owner: str) -> None:
    """Nobody waits there any more."""
    Demand.objects.filter(owner=owner, model=model).delete()


def last_used(model_id: int) -> datetime | None:
    """When people last wanted or used the model's engine; None when nobody did lately."""
    rows = Demand.objects.filter(Q(model=model_id) | Q(model__base=model_id))
    seen: datetime | None = rows.aggregate(seen=Max("seen_at"))["seen"]
    return seen


def position(model: Model) -> int:
    """The model's place in the queue of those that people wait for, from 1."""
    waiting = [job.model_id for job in sorted(InteractiveKind().backlog(), key=lambda job: job.since)]
    return waiting.index(model.engine_model.pk) + 1 if model.engine_model.pk in waiting else 1


def claim(model_id: int, device: Device) -> bool:
    """Whether this device is the one to get the engine ready for those who wait; then no other is.

    All idle workers hear the bell at once, and one engine is enough.
    """
    with transaction.atomic():
        Model.objects.select_for_update(no_key=True).filter(pk=model_id).first()  # the next one sees what we do
        if not _unserved().filter(engine_model=model_id).exists():
            return False
        names = Model.objects.filter(Q(pk=model_id) | Q(base=model_id)).values_list("name", flat=True)
        Engine.objects.update_or_create(
            device=device,
            model_id=model_id,
            defaults={"state": Engine.State.STARTING, "served": list(names), "socket": "", "since": Now()},
        )
    return True


def forget(_keeper: Keeper) -> bool:
    """A control duty: rows that somebody who died has left behind."""
    late = timezone.now() - timedelta(seconds=FORGOTTEN_SECONDS)
    return bool(Demand.objects.filter(seen_at__lt=late).delete()[0])


class InteractiveKind:
    """Requests of people for models that no engine serves now. They are sent by whoever waits, not by us."""

    def backlog(self) -> list[Job]:
        rows = _unserved().values("engine_model").annotate(waiting=Sum("waiting"), since=Min("since"))
        patience = timedelta(seconds=settings.INTERACTIVE_WAIT_SECONDS)
        return [
            Job(
                kind="interactive",
                model_id=row["engine_model"],
                waiting=row["waiting"],
                priority=0,
                deadline=row["since"] + patience,
                since=row["since"],
                urgent=True,
            )
            for row in rows.order_by("since")
        ]

    def run(self, host: EngineHost, keeper: Keeper, window: int) -> None:
        """The engine is up, which is all that was asked for: those who waited see it, and send."""


def _unserved() -> QuerySet[Any]:
    """Demands of people who wait now, for a model that nobody serves or is about to; `engine_model` is its engine's."""
    fresh = Demand.objects.filter(waiting__gt=0, seen_at__gt=Now() - timedelta(seconds=STALE_SECONDS))
    fresh = fresh.filter(model__problem="")  # the gateway refuses the others
    return fresh.annotate(engine_model=Coalesce("model__base", "model")).extra(where=[UNSERVED])  # noqa: S610 - a constant
