"""What can be seen of a batch while it runs."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import CharField, Q, Value
from django.db.models.functions import Cast, Concat

from apps.accounts.models import Project
from apps.batches.models import Batch
from apps.core.models import Attempt
from apps.core.waiting import reason, troubled
from apps.events.progress import Snapshot

TOPIC = "batch"


class BatchTopic:
    """The progress topic of batches, by their public id; see `apps.events.progress.Topic`."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        batches = Batch.objects.of(who) if isinstance(who, Project) else Batch.objects.visible_to(who)
        return batches.filter(uid=uid).exists()

    def snapshot(self, uid: str) -> Snapshot | None:
        """OpenAI's words and Unix seconds; counts of lines and tokens as of the last commit."""
        batch = Batch.objects.with_progress().filter(uid=uid).first()
        return None if batch is None else current(batch)


def current(batch: Any) -> Snapshot:
    """The same of a batch at hand, which was read `with_progress`. One more query while it is open."""
    snapshot = snapshot_of(batch)
    return snapshot if snapshot["final"] else snapshot | {"message": _why_waiting(batch)}


def snapshot_of(batch: Any) -> Snapshot:
    """For lists: without why it waits."""
    paused = batch.paused_at is not None and batch.status in Batch.OPEN
    return {
        "id": batch.uid,
        "object": "batch.progress",
        "status": batch.status,
        "status_label": "Paused; it goes on when it is resumed" if paused else batch.get_status_display(),
        "message": "",
        "paused": paused,
        "final": batch.status not in Batch.OPEN,
        "model": batch.model_name,
        "total": batch.total,
        "completed": batch.completed_lines,
        "failed": batch.failed_lines,
        "input_tokens": batch.input_tokens,
        "output_tokens": batch.output_tokens,
        "created_at": _unix(batch.created_at),
        "in_progress_at": _unix(batch.in_progress_at),
        "ended_at": _unix(batch.finalizing_at or batch.cancelling_at),
        "expires_at": _unix(batch.expires_at),
    }


def _why_waiting(batch: Batch) -> str:
    """Of what reads its input and writes its output, and of its shards."""
    shards = batch.shards.values_list(Concat(Value("shard:"), Cast("pk", CharField())))
    return reason(troubled(Attempt.objects.filter(Q(key=f"batch:{batch.pk}") | Q(key__in=shards))))


def _unix(moment: datetime | None) -> int | None:
    """Seconds, as everywhere in OpenAI's objects."""
    return int(moment.timestamp()) if moment else None
