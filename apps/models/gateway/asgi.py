"""The interactive endpoints as a plain ASGI application before Django, which would cost each request milliseconds."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from apps.accounts.authentication import digest_in
from apps.core.api.body_limit import App, Receive, Scope, Send, header, send_error
from apps.core.api.errors import as_api_error
from apps.core.api.request_id import HEADER, sane_or_new
from apps.models.gateway import refusals
from apps.models.gateway.exchange import ENDPOINTS, Answer, Exchange, Request
from apps.models.gateway.gateway import Gateway

WATCH_AFTER = 0.05  # seconds: an answer that comes sooner is not worth watching whether the client still waits

log = logging.getLogger(__name__)

_gateways: WeakKeyDictionary[asyncio.AbstractEventLoop, Gateway] = WeakKeyDictionary()


def gateway() -> Gateway:
    """The running event loop's."""
    loop = asyncio.get_running_loop()
    if loop not in _gateways:
        _gateways[loop] = Gateway()
    return _gateways[loop]


async def close() -> None:
    """Let go of everything; for the end of an event loop."""
    if gone := _gateways.pop(asyncio.get_running_loop(), None):
        await gone.close()


class Interactive:
    """Answers POST requests to the endpoints of engines, and leaves all others to `app`."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in ENDPOINTS or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            await _serve(scope, receive, send)
        except Exception as error:
            told = as_api_error(error)
            if told.status_code == 500:
                log.exception("%s failed", scope["path"])
            await send_error(scope, send, told)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The server's start and end."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await close()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    here = gateway()
    caller = await here.callers.find(digest_in(header(scope, b"authorization")))
    media_type = header(scope, b"content-type").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise refusals.wrong_media_type(media_type)
    body = await _read(receive)
    if body is not None:
        request = Request(caller, scope["path"], body)
        await _unless_gone(receive, _answer(scope, send, here.exchange(request)))


async def _read(receive: Receive) -> bytes | None:
    """The body; None when the client hung up."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(scope: Scope, send: Send, exchange: Exchange) -> None:
    async with exchange as answer:
        await send({"type": "http.response.start", "status": answer.status, "headers": _headers(scope, answer)})
        await send({"type": "http.response.body", "body": answer.first, "more_body": answer.more is not None})
        if answer.more is None:
            return
        async for events in answer.more:
            await send({"type": "http.response.body", "body": events, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _headers(scope: Scope, answer: Answer) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (HEADER.encode(), sane_or_new(header(scope, HEADER.encode())).encode()),
        *answer.headers,
    ]
    if answer.more is None:
        headers.append((b"content-length", b"%d" % len(answer.first)))
    return headers


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but break it off when the client hangs up."""
    working = asyncio.current_task()
    assert working  # noqa: S101 (for mypy: we are in one)
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            continue
        gone = True
        working.cancel()

    watcher: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER, begin)
    try:
        await work
    except asyncio.CancelledError:
        if not gone:
            raise
        working.uncancel()
    finally:
        timer.cancel()
        if watcher:
            watcher.cancel()
