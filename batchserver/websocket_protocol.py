"""WebSockets that end where the client takes nothing, and that are closed for others where connections are short."""

from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from batchserver.eviction import Rank

SILENT_SECONDS = 10.0  # without a message in either direction: pages connect again when there is room
CLOSING_SECONDS = 10.0  # for the client to take what it was sent before the close


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket of a page. Pings find clients that are gone (uvicorn)."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._message_at = self.loop.time()
        self._closing_since: float | None = None

    def send_receive_event_to_app(self) -> None:
        self._message_at = self.loop.time()
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        self._message_at = self.loop.time()

    def look(self, now: float) -> None:
        if not self.transport.is_closing():
            return
        if self._closing_since is None:
            self._closing_since = now
        elif now - self._closing_since > CLOSING_SECONDS:
            self.transport.abort()

    def rank(self, now: float) -> tuple[Rank, float] | None:
        silent = now - self._message_at > SILENT_SECONDS and not self.transport.is_closing()
        return (Rank.SILENT_SOCKET, self._message_at) if silent else None

    def evict(self) -> None:
        """The page is told to connect again."""
        self.shutdown()
