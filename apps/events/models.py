from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.accounts.tenancy import TenantQuerySet
from apps.core.ids import new_id


def _event_id() -> str:
    return new_id("evt_")


class EventQuerySet(TenantQuerySet["Event"]):
    pass


class Event(models.Model):
    """Something that happened, written in the transaction that made it so, and delivered at least once after it."""

    uid = models.CharField(max_length=50, unique=True, default=_event_id, editable=False)
    type = models.CharField(max_length=50)  # "batch.completed", a key of `apps.events.signals.SIGNALS`
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True)
    data = models.JSONField(default=dict)  # {"id": "batch_…"}: thin, receivers read the object itself
    created_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, db_default=Now())  # null: delivered, or given up
    last_error = models.TextField(default="", blank=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="event_due"),
            models.Index(fields=["delivered_at"], condition=Q(delivered_at__isnull=False), name="event_delivered"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.data.get('id', '')}"
