"""An ASGI guard before Django: a body is bounded, and counted as it streams; strangers' uploads are not read at all.

Django takes the whole body before any view or login sees the request, so the limit must be known from the head alone.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from apps.core.api.errors import ApiError
from apps.core.api.request_id import HEADER, sane_or_new

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WRONG_KEY_SECONDS = 0.2


def header(scope: Scope, name: bytes) -> str:
    """A request header's value, "" without it."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


class BodyLimit:
    """Asks `limit_of` how many bytes a request may bring. It may raise an `ApiError`, which becomes the answer."""

    def __init__(self, app: App, limit_of: Callable[[Scope], Awaitable[int]]) -> None:
        self._app, self._limit_of = app, limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if header(scope, b"content-encoding").lower() not in ("", "identity"):
                raise ApiError(415, "Send the body without Content-Encoding.", "unsupported_encoding")
            limit = await self._limit_of(scope)
            if _declared_length(scope) > limit:
                raise too_large(limit)
        except ApiError as error:
            await send_error(scope, send, error)
            return
        await self._counted(scope, receive, send, limit)

    async def _counted(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        received, over = 0, False

        async def counting_receive() -> Message:
            nonlocal received, over
            message = await receive()
            received += len(message.get("body", b""))
            over = received > limit
            return {"type": "http.disconnect"} if over else message

        await self._app(scope, counting_receive, send)
        if over:  # Django heard a disconnect while it read the body, and answered nothing
            await send_error(scope, send, too_large(limit))


def _declared_length(scope: Scope) -> int:
    length = header(scope, b"content-length")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request's body is larger than {limit:,} bytes.", "request_too_large")


async def send_error(scope: Scope, send: Send, error: ApiError) -> None:
    """Answer a request with an error that no view will send. Who showed a wrong key waits: they may try again."""
    if error.status_code == 401:
        await asyncio.sleep(WRONG_KEY_SECONDS)
    body = json.dumps(error.envelope).encode()
    headers = {
        **error.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
        HEADER: sane_or_new(header(scope, HEADER.encode())),
    }
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status_code, "headers": raw})
    await send({"type": "http.response.body", "body": body})
