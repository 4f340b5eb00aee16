"""Files and batches made through the services, and lines that ended without an engine."""

import json
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.db import connection
from django.utils import timezone

from apps.accounts.models import Project
from apps.batches.models import Batch, File, Request, Result, Shard
from apps.batches.services import create_batch, create_file
from apps.batches.validate import cut_shards
from apps.models.models import Model

CHAT = "/v1/chat/completions"
LINE = (
    b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",'
    b' "body": {"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]}}\n'
)


def make_file(project: Project, content: bytes = LINE, *, purpose: str = "batch", **options: Any) -> File:
    return create_file(
        project=project, filename="input.jsonl", purpose=purpose, upload=ContentFile(content, "input.jsonl"), **options
    )


def make_batch(project: Project, file: File | None = None, **options: Any) -> Batch:
    return create_batch(project=project, input_file=file or make_file(project), endpoint=CHAT, **options)


def make_running(project: Project, model: Model, lines: int = 3, **options: Any) -> Batch:
    """A validated batch of lines named a1, a2 …"""
    batch = make_batch(project, **options)
    Request.objects.bulk_create(
        Request(batch=batch, line=line, custom_id=f"a{line}", body=json.dumps({"n": line}))
        for line in range(1, lines + 1)
    )
    with connection.cursor() as cursor:
        cut_shards(cursor, batch.pk)
    batch.advance(Batch.Status.IN_PROGRESS, model=model, model_name=model.name, total=lines)
    return batch


def end_line(batch: Batch, line: int, *, failed: bool = False) -> None:
    """Gives a line its result and counts it."""
    Result.objects.create(
        batch=batch,
        line=line,
        failed=failed,
        status_code=400 if failed else 200,
        body=json.dumps({"line": line}),
        custom_id=f"a{line}",
        request_id=f"req_{line}",
        attempts=1,
    )
    shard = Shard.objects.get(batch=batch, first_line__lte=line, last_line__gte=line)
    shard.failed += failed
    shard.completed += not failed
    shard.input_tokens += 5
    shard.cached_tokens += 2
    shard.output_tokens += 3
    shard.reasoning_tokens += 1
    shard.save()


def end(batch: Batch) -> None:
    """Completes a batch whose lines have ended, without writing its files."""
    batch.advance(Batch.Status.FINALIZING, outcome=Batch.Status.COMPLETED)
    batch.advance(Batch.Status.COMPLETED)


def expire(file: File) -> None:
    File.objects.filter(pk=file.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
