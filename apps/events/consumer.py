"""The one WebSocket: live progress for the pages.

The client sends `{"subscribe": [["batch", "batch_…"], …]}` and gets `{"topic": "batch", "progress": {…}}`: the state
now, then each change, then the final state. What it may not see is answered as what does not exist.
"""

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import msgspec
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.db import Error
from django.http import HttpRequest
from django.utils.module_loading import import_string

from apps.events import progress

SUBSCRIPTIONS = 100  # per socket
MESSAGE_BYTES = 64 * 1024
RECHECK_SECONDS = 30.0

LOGGED_OUT, RIGHTS_CHANGED, TOO_BIG, TRY_AGAIN = 4401, 4403, 1009, 1013

Uid = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


class Subscribe(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may say."""

    subscribe: Annotated[list[tuple[str, Uid]], msgspec.Meta(max_length=SUBSCRIPTIONS)]


class ProgressConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """Checks rights at each subscription and again every RECHECK_SECONDS, as sockets outlive logins and roles."""

    channel_layer_alias = None  # `watch` listens for us, and works without Redis

    async def connect(self) -> None:
        self._watching: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._guard = asyncio.create_task(self._recheck())
        await self.accept()
        if not self.scope["user"].is_authenticated:  # accepted first: a refused browser learns no reason
            await self.close(LOGGED_OUT, "Log in first.")

    async def disconnect(self, _code: int) -> None:
        tasks = [self._guard, *self._watching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any) -> None:
        message = bytes_data if text_data is None else text_data.encode()
        if message is None or len(message) > MESSAGE_BYTES:
            await self.close(TOO_BIG)
            return
        try:
            wanted = msgspec.json.decode(message, type=Subscribe).subscribe
        except (msgspec.DecodeError, RecursionError) as error:
            await self._refuse("invalid_message", f'Send {{"subscribe": [["batch", "batch_…"]]}}: {error}')
            return
        for topic, uid in wanted:
            await self._subscribe(topic, uid)

    async def _subscribe(self, topic: str, uid: str) -> None:
        if (topic, uid) in self._watching:
            return
        if len(self._watching) >= SUBSCRIPTIONS:
            await self._refuse("too_many", f"A socket watches at most {SUBSCRIPTIONS} objects.", topic, uid)
        elif not await _authorized(topic, self.scope["user"], uid):
            await self._refuse("not_found", f"There is no {topic} {uid}.", topic, uid)
        else:
            self._watching[topic, uid] = asyncio.create_task(self._forward(topic, uid))

    async def _refuse(self, code: str, message: str, topic: str | None = None, uid: str | None = None) -> None:
        await self.send_json({"error": {"code": code, "message": message, "topic": topic, "id": uid}})

    async def _forward(self, topic: str, uid: str) -> None:
        async with aclosing(progress.watch(topic, uid)) as snapshots:
            async for snapshot in snapshots:
                await self.send_json({"topic": topic, "progress": snapshot})
        del self._watching[topic, uid]

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                user = await _user_of(self.scope["session"].session_key)
                rights = [user is not None and await _authorized(t, user, uid) for t, uid in list(self._watching)]
            except Error:
                await self.close(TRY_AGAIN, "The database is away.")
                return
            if user is None:
                await self.close(LOGGED_OUT, "Log in again.")
            elif not all(rights):
                await self.close(RIGHTS_CHANGED, "Your rights have changed.")


_authorized = database_sync_to_async(progress.authorize, thread_sensitive=False)


@partial(database_sync_to_async, thread_sensitive=False)
def _user_of(session_key: str | None) -> User | None:
    """Who is logged in with this session now: read again, not from the time when the socket opened."""
    request = HttpRequest()
    request.session = import_string(f"{settings.SESSION_ENGINE}.SessionStore")(session_key)
    user = get_user(request)
    return user if isinstance(user, User) else None
