import json
from collections.abc import Iterable
from typing import Any

import pytest

from apps.core.api.body_limit import BodyLimit, Message, Receive, Scope, Send
from apps.core.api.errors import ApiError

LIMIT = 10


class Server:
    """Plays the ASGI server: hands out body parts, notes what is sent and how much was read."""

    def __init__(self, parts: Iterable[bytes], **headers: str) -> None:
        self.parts = list(parts)
        self.sent: list[Message] = []
        self.read = 0
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }

    async def receive(self) -> Message:
        part = self.parts.pop(0)
        self.read += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def answer(self) -> tuple[int, dict[str, Any]]:
        start, body = self.sent
        return start["status"], json.loads(body["body"])


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads everything, as Django does, and says nothing to a client that hung up."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


async def limit_of(scope: Scope) -> int:
    return LIMIT


async def refuse(scope: Scope) -> int:
    raise ApiError(401, "No key.", headers={"WWW-Authenticate": "Bearer"})


async def serve(server: Server, limit: Any = limit_of) -> None:
    await BodyLimit(application, limit)(server.scope, server.receive, server.send)


async def test_it_works() -> None:
    server = Server([b"12345", b"67890"])
    await serve(server)
    assert server.answer == (200, {"size": LIMIT})


async def test_it_rejects_a_declared_length_unread() -> None:
    server = Server([b"x" * 11], content_length="11")
    await serve(server)
    status, body = server.answer
    assert (status, body["error"]["code"]) == (413, "request_too_large")
    assert server.read == 0


async def test_it_rejects_a_stream_as_soon_as_it_is_too_long() -> None:
    server = Server([b"x" * 6] * 1000)
    await serve(server)
    assert server.answer[0] == 413
    assert server.read == 12


async def test_it_rejects_strangers_unread() -> None:
    server = Server([b"x"], x_request_id="abc")
    await serve(server, refuse)
    assert server.answer[0] == 401
    assert server.read == 0
    assert dict(server.sent[0]["headers"])[b"www-authenticate"] == b"Bearer"
    assert dict(server.sent[0]["headers"])[b"x-request-id"] == b"abc"


@pytest.mark.parametrize("length", ["", "-1", "1e9", "9" * 30, "²"])
async def test_it_survives_a_nonsense_length(length: str) -> None:
    server = Server([b"12345"], content_length=length)
    await serve(server)
    assert server.answer[0] in (200, 413)


async def test_websockets_pass() -> None:
    seen = []

    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    server = Server([])
    await BodyLimit(socket, refuse)({"type": "websocket"}, server.receive, server.send)
    assert seen == ["websocket"]
