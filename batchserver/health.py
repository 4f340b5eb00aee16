"""Whether this process can serve, for load balancers and for who starts it."""

import asyncio
import json
from weakref import WeakKeyDictionary

import psycopg
from django.http import HttpRequest, JsonResponse

from apps.core.api.body_limit import App, Receive, Scope, Send
from apps.core.db import connect
from apps.models.gateway.cache import Cache

PATH = "/healthz"
FRESH_SECONDS = 1.0
SENTENCES = {200: "ok", 503: "the database does not answer"}


class Health:
    """Answers `GET /healthz` before anything else: 200 when the database answers, 503 when it does not.

    Everybody may ask, so that all who ask within a second share one look at the database.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._known: WeakKeyDictionary[asyncio.AbstractEventLoop, Cache[str, int]] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        status = await self._status()
        body = json.dumps({"status": SENTENCES[status]}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _status(self) -> int:
        loop = asyncio.get_running_loop()
        if loop not in self._known:
            self._known[loop] = Cache(_look, seconds=lambda _: FRESH_SECONDS, size=1)
        return await self._known[loop].get(PATH)


async def _look(_path: str) -> int:
    return await asyncio.to_thread(_status_of_database)


def _status_of_database() -> int:
    try:
        connect().close()  # the pool would wait for seconds
    except psycopg.OperationalError:
        return 503
    return 200


def api_root(request: HttpRequest) -> JsonResponse:
    """What is here, for people who open /v1 in a browser."""
    return JsonResponse({"object": "api", "docs": "/v1/docs", "schema": "/v1/schema"})
