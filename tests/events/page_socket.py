# mypy: disable-error-code="no-untyped-call"
"""A browser's end of the WebSocket, without a network: it speaks ASGI to the whole application."""

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator

from batchserver.asgi import application


class PageSocket(ApplicationCommunicator):
    def __init__(self, *, origin: str, cookie: str = "") -> None:
        headers = [(b"origin", origin.encode()), (b"cookie", cookie.encode())]
        super().__init__(
            application,
            {
                "type": "websocket",
                "path": "/ws/progress",
                "query_string": b"",
                "headers": headers,
                "subprotocols": [],
            },
        )

    async def connect(self) -> bool:
        """Whether it was accepted."""
        await self.send_input({"type": "websocket.connect"})
        message = await self.receive_output(timeout=5)
        return bool(message["type"] == "websocket.accept")

    async def say(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def subscribe(self, *uids: str, topic: str = "batch") -> None:
        await self.say(json.dumps({"subscribe": [[topic, uid] for uid in uids]}))

    async def hear(self) -> dict[str, Any]:
        """The next message. Raises `TimeoutError` after a few seconds."""
        message = await self.receive_output(timeout=5)
        heard: dict[str, Any] = json.loads(message["text"])
        return heard

    async def is_silent(self, seconds: float) -> bool:
        return bool(await self.receive_nothing(seconds))

    async def close_code(self) -> int:
        """That of the close which comes after whatever was still under way."""
        while (message := await self.receive_output(timeout=5))["type"] != "websocket.close":
            pass
        return int(message["code"])

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait(timeout=5)
