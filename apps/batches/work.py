"""Batches as a kind of GPU work: what waits, and how a turn is worked through."""

from django.conf import settings
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce

from apps.batches.client import Client
from apps.batches.models import Batch, Shard
from apps.batches.runner import Runner
from apps.core.leases import Keeper
from apps.events import progress
from apps.models.jobs import EngineHost, Job
from apps.models.models import Model
from apps.models.removal import Use


class BatchKind:
    """Lines of batches that wait for a model."""

    def backlog(self) -> list[Job]:
        """A job per batch; shards that a live worker holds do not wait any more, and those of an adapter that no engine
        serves wait for whoever mends it."""
        runnable = Batch.objects.runnable().filter(Q(model=None) | Q(model__problem=""))
        shards = Shard.objects.filter(batch__in=runnable, lines__gt=F("completed") + F("failed"))
        free = shards.extra(
            where=[
                "NOT EXISTS (SELECT FROM core_lease l WHERE l.key = 'shard:' || batches_shard.id"
                " AND l.expires_at > clock_timestamp())",
                "NOT EXISTS (SELECT FROM core_attempt a WHERE a.key = 'shard:' || batches_shard.id"
                " AND a.next_at > clock_timestamp())",
            ]
        )
        rows = free.values(
            "batch_id",
            engine_model=Coalesce("batch__model__base", "batch__model"),
            priority=F("batch__priority"),
            deadline=F("batch__expires_at"),
            since=F("batch__in_progress_at"),
        ).annotate(waiting=Sum(F("lines") - F("completed") - F("failed")))
        return [
            Job(
                kind="batches",
                model_id=row["engine_model"],
                waiting=row["waiting"],
                priority=row["priority"],
                deadline=row["deadline"],
                since=row["since"],
            )
            for row in rows
            if row["engine_model"] is not None
        ]

    def run(self, host: EngineHost, keeper: Keeper, window: int) -> None:
        Runner(host=host, keeper=keeper, window=window, client=_client, on_progress=_tell_watchers).run()


def uses_of(model: Model) -> Use:
    """How many batches name a model; those that run need it."""
    batches = Batch.objects.filter(model=model)
    running = (Batch.Status.IN_PROGRESS, Batch.Status.CANCELLING)
    return Use("batches", batches.count(), batches.filter(status__in=running).count())


async def _tell_watchers(batches: set[str]) -> None:
    for uid in batches:
        await progress.ahint("batch", uid)


def _client(host: EngineHost) -> Client:
    return Client(
        host.engine.spec.socket,
        alive=host.engine.alive,
        attempts=settings.REQUEST_ATTEMPTS,
        timeout=settings.REQUEST_TIMEOUT_SECONDS,
    )
