"""Progress as server-sent events, for scripts: the same snapshots as the WebSocket's."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

import msgspec
from channels.db import database_sync_to_async
from django.http import StreamingHttpResponse

from apps.accounts.models import ApiKey
from apps.core.json_lines import escape_separators_in_bytes
from apps.events import progress

KEEP_ALIVE = 15.0  # seconds without a change after which a comment keeps proxies from hanging up
RECHECK = 30.0  # seconds after which a key may have been revoked


def stream(topic: str, uid: str, key: ApiKey) -> StreamingHttpResponse:
    """`progress` after each change, then one `done`. It does not ask whether the key may see the object."""
    return StreamingHttpResponse(
        _events(topic, uid, key),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _events(topic: str, uid: str, key: ApiKey) -> AsyncIterator[bytes]:
    """Ends when the object does, or without `done` when the key is no longer good."""
    shown: progress.Snapshot | None = None
    checked = time.monotonic()
    async with aclosing(progress.watch(topic, uid, idle=KEEP_ALIVE)) as snapshots:
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
    return b"event: %s\ndata: %s\n\n" % (name.encode(), escape_separators_in_bytes(msgspec.json.encode(data)))


@partial(database_sync_to_async, thread_sensitive=False)
def _is_live(key: ApiKey) -> bool:
    return ApiKey.objects.live().filter(pk=key.pk).exists()
