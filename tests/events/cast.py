"""Batches in any state, without the machinery that brings them there."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Membership, Project
from apps.batches.models import Batch, Shard


def running_batch(project: Project, *, total: int = 10, **more: Any) -> Batch:
    """In progress for ten seconds, with one shard and nothing done."""
    values = {"status": Batch.Status.IN_PROGRESS, "in_progress_at": timezone.now() - timedelta(seconds=10)} | more
    batch = Batch.objects.create(
        project=project,
        endpoint="/v1/chat/completions",
        input_file_id="file-1",
        model_name="test-model",
        expires_at=timezone.now() + timedelta(hours=24),
        total=total,
        **values,
    )
    Shard.objects.create(batch=batch, first_line=1, last_line=total, lines=total)
    return batch


def answer(batch: Batch, *, completed: int, failed: int = 0) -> None:
    """So many of its lines have ended, with ten tokens each."""
    Shard.objects.filter(batch=batch).update(
        completed=completed, failed=failed, input_tokens=5 * completed, output_tokens=10 * completed
    )


def complete(batch: Batch) -> None:
    answer(batch, completed=batch.total)
    Batch.objects.filter(pk=batch.pk).update(status=Batch.Status.COMPLETED, finalizing_at=Now(), completed_at=Now())


def member(project: Project, name: str = "mia") -> User:
    user = User.objects.create_user(name, password="a long password")
    Membership.objects.create(project=project, user=user)
    return user
