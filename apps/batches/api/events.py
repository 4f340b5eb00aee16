"""A batch's progress as server-sent events: the same snapshots as the WebSocket's, for scripts."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

import msgspec
from channels.db import database_sync_to_async
from django.db import close_old_connections
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from apps.accounts.models import ApiKey, Scope
from apps.batches.models import Batch
from apps.batches.progress import TOPIC
from apps.core.api.schema import responses
from apps.core.api.views import ApiView, find
from apps.events import progress

KEEP_ALIVE = 15.0  # seconds without a change after which a comment keeps proxies from hanging up
RECHECK = 30.0  # seconds after which a key may have been revoked


class BatchEventsView(ApiView):
    required_scopes = {"GET": Scope.BATCHES_READ}

    @extend_schema(
        operation_id="streamBatchEvents",
        summary="Watch a batch",
        description="Server-sent events: `progress` with the batch's counters after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, batch_id: str) -> StreamingHttpResponse:
        key: ApiKey = request.auth  # type: ignore[assignment]
        batch = find(Batch.objects.of(key.project), batch_id, "batch")
        close_old_connections()  # a stream must not keep its request's connection from the pool
        return StreamingHttpResponse(
            _events(batch.uid, key),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


async def _events(uid: str, key: ApiKey) -> AsyncIterator[bytes]:
    """Ends when the batch does, or without `done` when the key is no longer good."""
    shown: progress.Snapshot | None = None
    checked = time.monotonic()
    async with aclosing(progress.watch(TOPIC, uid, idle=KEEP_ALIVE)) as snapshots:
        async for snapshot in snapshots:
            yield b": unchanged\n\n" if snapshot is shown else _event("progress", snapshot)
            shown = snapshot
            if time.monotonic() - checked > RECHECK:
                if not await _is_live(key):
                    return
                checked = time.monotonic()
    if shown and shown["final"]:
        yield _event("done", shown)


def _event(name: str, data: progress.Snapshot) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


@partial(database_sync_to_async, thread_sensitive=False)
def _is_live(key: ApiKey) -> bool:
    return ApiKey.objects.live().filter(pk=key.pk).exists()
