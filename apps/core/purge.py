"""The duty that forgets answers which nobody asks for any more."""

from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from apps.core.api import idempotency, repeats
from apps.core.leases import Keeper
from apps.core.models import IdempotencyKey

AT_ONCE = 1000


def purge_answers(_keeper: Keeper) -> bool:
    """Delete what is older than its time, a bounded number at once."""
    old = _older(idempotency.KEPT) | (Q(scope__endswith=repeats.SCOPE) & _older(repeats.KEPT))
    found = list(IdempotencyKey.objects.filter(old).order_by("created_at").values_list("pk", flat=True)[:AT_ONCE])
    IdempotencyKey.objects.filter(old, pk__in=found).delete()
    return len(found) == AT_ONCE


def _older(age: timedelta) -> Q:
    return Q(created_at__lt=Now() - age)
