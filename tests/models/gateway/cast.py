"""An ASGI client for the gateway, and an engine's row that leads it to a real process."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from channels.db import database_sync_to_async

from apps.core.api.body_limit import App, Message
from apps.models.models import Device, Engine, Model
from apps.models.slots import Slot
from tests.batches.lender import Lender

CHAT = "/v1/chat/completions"
SOON = 5.0  # seconds


def show_engine(model: Model, lender: Lender | None) -> Engine:
    """The row that a GPU worker of this host would write; without a lender the engine does not serve."""
    device, _ = Device.objects.get_or_create(slot=Slot.here("cpu").key)
    values: dict[str, Any] = {"state": Engine.State.STOPPED, "socket": "", "served": []}
    if lender:
        values = {"state": Engine.State.READY, "socket": str(lender.engine.spec.socket), "served": [model.name]}
    return Engine.objects.update_or_create(device=device, model=model, defaults=values)[0]


async def in_database(function: Any, *arguments: Any, **more: Any) -> Any:
    return await database_sync_to_async(function)(*arguments, **more)


async def eventually(condition: Callable[[], Any], seconds: float = SOON) -> bool:
    end = asyncio.get_running_loop().time() + seconds
    while not await in_database(condition):
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.02)
    return True


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "test-model", "messages": [{"role": "user", "content": text}], **more}


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        """Of an error."""
        return self.json["error"]["code"]

    @property
    def events(self) -> list[Any]:
        """The data of server-sent events; "[DONE]" as it is."""
        return parsed(self.body)


def parsed(stream: bytes) -> list[Any]:
    texts = [event.partition(b"data: ")[2] for event in stream.split(b"\n\n")[:-1]]
    return [text.decode() if text == b"[DONE]" else json.loads(text) for text in texts]


class Exchange:
    """One request, whose answer is read as slowly as the test likes, and which it can break off."""

    def __init__(self, application: App, path: str, raw: bytes, headers: dict[str, str], reading: int) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue(reading)
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": raw, "more_body": False})
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": fields}
        self.task = asyncio.create_task(self._run(application, scope))

    async def _run(self, application: App, scope: Any) -> None:
        await application(scope, self._inbox.get, self.sent.put)

    def hang_up(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def message(self) -> Message:
        """What the gateway sends next."""
        return await asyncio.wait_for(self.sent.get(), 30)

    async def response(self) -> Response:
        start = await self.message()
        parts = []
        while True:
            message = await self.message()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        await self.task
        headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Response(start["status"], headers, b"".join(parts))


class Asking:
    """A client with a key."""

    def __init__(self, application: App, key: str) -> None:
        self.application, self.key = application, key

    def start(
        self, body: Any, path: str = CHAT, *, headers: dict[str, str] | None = None, reading: int = 0
    ) -> Exchange:
        """`body` is JSON or bytes; `reading` is how many messages fit between the gateway and a slow client."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        return Exchange(self.application, path, raw, own | (headers or {}), reading)

    async def post(self, body: Any, path: str = CHAT, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.start(body, path, headers=named).response()
