"""What can be seen of a batch while it runs."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.batches.models import Batch
from apps.events.progress import Snapshot

TOPIC = "batch"


class BatchTopic:
    """The progress topic of batches, by their public id; see `apps.events.progress.Topic`."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        batches = Batch.objects.of(who) if isinstance(who, Project) else Batch.objects.visible_to(who)
        return batches.filter(uid=uid).exists()

    def snapshot(self, uid: str) -> Snapshot | None:
        """OpenAI's words and Unix seconds; counts of lines and tokens as of the last commit. One query."""
        batch = Batch.objects.with_progress().filter(uid=uid).first()
        return None if batch is None else snapshot_of(batch)


def snapshot_of(batch: Any) -> Snapshot:
    """The same of a batch at hand, which was read `with_progress`."""
    paused = batch.paused_at is not None and batch.status in Batch.OPEN
    return {
        "id": batch.uid,
        "object": "batch.progress",
        "status": batch.status,
        "status_label": "Paused; it goes on when it is resumed" if paused else batch.get_status_display(),
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


def _unix(moment: datetime | None) -> int | None:
    """Seconds, as everywhere in OpenAI's objects."""
    return int(moment.timestamp()) if moment else None
