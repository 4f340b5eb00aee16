"""What the admin's first page shows: what runs, what it runs on, what was done lately."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest

from apps.accounts.models import ApiKey
from apps.accounts.tenant_admin import signed_in
from apps.batches.admin.pages import progress_of
from apps.batches.models import Batch, Shard
from apps.models.models import Engine, Model

SHOWN = 8  # batches of each kind
LATELY = timedelta(days=1)
ENDED_AT = Coalesce("completed_at", "failed_at", "expired_at", "cancelled_at")


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback: adds to the index page's context. The number of queries does not grow with the rows."""
    user = signed_in(request)
    batches = Batch.objects.visible_to(user)
    shown = batches.with_progress().select_related("project")
    running = shown.filter(status__in=Batch.OPEN).order_by("-priority", "id")[:SHOWN]
    ended = shown.exclude(status__in=Batch.OPEN).order_by(ENDED_AT.desc(), "-id")[:SHOWN]
    models = set(admin.site.get_model_admin(Model).get_queryset(request).values_list("pk", flat=True))
    return {
        **context,
        "running": [(batch, progress_of(batch)) for batch in running],
        "ended": [(batch, progress_of(batch)) for batch in ended],
        "engines": [(engine, engine.model_id in models) for engine in Engine.objects.select_related("device", "model")],
        "lately": counts_of(batches.filter(created_at__gte=Now() - LATELY)),
        "has_models": bool(models),
        "has_keys": ApiKey.objects.visible_to(user).live().exists(),
    }


def counts_of(batches: QuerySet[Batch]) -> dict[str, int]:
    """Lines done and tokens of these batches, from their shards' sums: no result row is read."""
    sums = ("completed", "failed", "input_tokens", "output_tokens")
    totals = {name: Coalesce(Sum(name), 0) for name in sums}
    return Shard.objects.filter(batch__in=batches).aggregate(**totals)
