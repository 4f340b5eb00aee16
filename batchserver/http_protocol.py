"""HTTP/1.1 on a socket, with bounds on what a stranger can cost before any view runs.

httptools parses twice as fast as h11 and limits nothing: a request's head, what frames its body, and how long either
takes are bounded here. In charge of bytes, seconds and the number of connections; not of what a body may hold
(`apps.core.api.body_limit`).
"""

import json
from http import HTTPStatus
from typing import Any, cast

import httptools
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from apps.core.api.body_limit import App, Message, Receive, Scope, Send
from apps.core.api.errors import ApiError
from batchserver.eviction import Evictor, Rank

HEAD_BYTES = 64 * 1024
FRAMING_BYTES = 64 * 1024  # of chunks' sizes and extensions (13,000 chunks), besides …
FRAMING_PER_BYTE = 1  # … this for each byte of body: chunks of five bytes and more
FEED_BYTES = 64 * 1024  # that are parsed before they are judged
PIPELINED = 8  # requests of one connection that wait for the one before them
HEAD_TOO_LARGE = (431, "The request's headers are too large.")
NOT_CHUNKED = (501, "The only Transfer-Encoding that is understood is 'chunked'.")
CHUNKED_IN_1_0 = (400, "Transfer-Encoding needs HTTP/1.1.")
UPGRADES = (b"upgrade", b"http2-settings")
STALLED_SECONDS = 10.0  # without progress: the first to go where connections are short


class BoundedHttp(HttpToolsProtocol):
    """An `eviction.Connection`."""

    evictor = Evictor()  # of this process

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._in_head = True
        self._head = 0  # bytes of a request's head that the parser has told
        self._body = 0  # bytes of the request's body so far
        self._untold = 0  # bytes besides: of a header that has not come as a whole, or around the body's
        self._framing = 0  # those around the body's, when the last bytes came
        self._served = False
        self._upgrade_ignored = False
        self._waits_since: float | None = self.loop.time()  # for a whole head; None: a request is being answered
        self._body_mark = (0.0, 0)  # a moment, and `_body` then
        self._unsent = (0, 0.0)  # bytes of answers that wait for the client, and since when it takes none
        if len(self.connections) > settings.WEB_MAX_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if len(data) <= FEED_BYTES:
            self._feed(data)
            return
        for at in range(0, len(data), FEED_BYTES):
            self._feed(data[at : at + FEED_BYTES])
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return

    def _feed(self, data: bytes) -> None:
        self._untold += len(data)
        self._parse(data)
        self._framing = 0
        if self._in_head:
            self._bound_head(data)
        elif self._reading() is None:
            self._untold = 0
        else:
            self._framing = self._untold
            if self._framing > FRAMING_BYTES + FRAMING_PER_BYTE * self._body:
                self.refuse(400, "The body's chunks hold more framing than body: send fewer, larger ones.")

    def _bound_head(self, data: bytes) -> None:
        """What was parsed last belongs to a head that goes on."""
        if (end := data.rfind(b"\r\n\r\n")) >= 0:  # it has no empty line: this is of what came before it
            self._untold = min(self._untold, len(data) - end - 4 - self._head)
        if self._head + self._untold > HEAD_BYTES:
            self.refuse(*HEAD_TOO_LARGE)

    def _told(self, size: int) -> None:
        """So many bytes of a head came out of the parser."""
        self._head += size
        self._untold -= size
        if self._head > HEAD_BYTES:
            self.refuse(*HEAD_TOO_LARGE)
            raise ValueError("a head that is too large")

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(400, "This is not a valid HTTP/1.1 request.")

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """An upgrade that is unknown here is ignored (RFC 9110 §7.8); the parser would lose the request's body."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in UPGRADES:
                head += [name, b": ", _without_upgrades(value) if name == b"connection" else value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self._upgrade_ignored = False
        again = b"".join([*head, b"\r\n", rest])
        self._untold = len(again)
        self._parse(again)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED:  # each costs memory, and an answer to one is under way
            self.transport.abort()
            raise ValueError("too many pipelined requests")
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._untold, self._framing = self._untold - self._framing, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._told(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self.refuse(400, "Trailers behind a chunked body are not taken: send them as headers.")
            raise ValueError("a trailer")
        self._told(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or self.parser.get_http_version() != "1.1"):
            self.refuse(*(NOT_CHUNKED if codings != [b"chunked"] else CHUNKED_IN_1_0))
            raise ValueError("a body that cannot be read")
        self._upgrade_ignored = self.parser.should_upgrade() and not self._should_upgrade()
        if self._upgrade_ignored and self.parser.get_method() != b"CONNECT":
            return
        self._untold -= len(self.parser.get_method()) + len("  HTTP/1.1\r\n\r\n")
        self._in_head, self._waits_since = False, None
        self._body, self._body_mark = 0, (self.loop.time(), 0)
        self.expect_100_continue &= self.parser.get_http_version() == "1.1"  # RFC 9110 §10.1.1, as below
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        expects = cycle.waiting_for_100_continue
        super()._start_asgi_task(cycle, cast(Any, _closing_unless_continued(cycle, app)) if expects else app)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        self._untold -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrade_ignored:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._served = True
        self._waits_since = self.loop.time() if self.cycle.response_complete else None  # or a pipelined one is next

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, msg)

    def refuse(self, status: int, message: str) -> None:
        """Answer what no application will see, and hang up. In the middle of an answer there is only hanging up."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = json.dumps(ApiError(status, message).envelope).encode()
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        headers = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write((line + headers).encode() + body)
        self.transport.close()

    def look(self, now: float) -> None:
        """Hang up on who took too long. `now` is the event loop's clock."""
        self._look_at_answer(now)  # of one that is closing, too: it waits for the client to take the rest
        if self.transport.is_closing():
            return
        if self._waits_since is not None:
            self._look_at_head(now - self._waits_since)
        elif self._reading() is not None:
            self._look_at_body(now)

    def rank(self, now: float) -> tuple[Rank, float] | None:
        """How soon it makes room for another, the least first; None: it may stay."""
        if self._waits_since is not None and not self.transport.is_closing():
            return (Rank.BETWEEN_REQUESTS if self._served else Rank.NO_REQUEST_YET), self._waits_since
        if self._unsent[0] and now - self._unsent[1] > STALLED_SECONDS:
            return Rank.STALLED_ANSWER, self._unsent[1]
        if (
            not self.transport.is_closing()
            and self._reading() is not None
            and now - self._body_mark[0] > STALLED_SECONDS
        ):
            return Rank.SLOW_BODY, self._body_mark[0]
        return None

    def _reading(self) -> Any:
        """The request whose body is not here as a whole, if that is so."""
        reads = self.cycle is not None and self.cycle.more_body and not self._in_head
        return self.cycle if reads else None

    def _look_at_head(self, waited: float) -> None:
        if self._in_head and self._head + self._untold and waited > settings.WEB_HEAD_SECONDS:
            self.refuse(408, f"The request's head did not come within {settings.WEB_HEAD_SECONDS} s.")
        elif waited > settings.WEB_HEAD_SECONDS + self.timeout_keep_alive:  # silent, or goes on with a refused body
            self.transport.close()

    def _look_at_body(self, now: float) -> None:
        began, had = self._body_mark
        if self.flow.read_paused or self.cycle.waiting_for_100_continue or self.cycle.response_complete:
            self._body_mark = (now, self._body)  # it is our turn, not the client's
        elif now - began >= settings.WEB_BODY_SECONDS:
            if (self._body - had) / (now - began) < settings.WEB_BODY_BYTES_PER_SECOND:
                self.refuse(408, f"The body came slower than {settings.WEB_BODY_BYTES_PER_SECOND:,} bytes a second.")
            self._body_mark = (now, self._body)

    def _look_at_answer(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        elif unsent and now - self._unsent[1] > settings.WEB_SEND_SECONDS:
            self.transport.abort()

    def _make_room(self) -> None:
        """Of too many connections the least useful one goes, or else this one."""
        if not self.evictor.evict_one(self.connections, self, self.loop.time()):
            self.refuse(503, "The server has as many connections as it takes. Try again in a few seconds.")

    def evict(self) -> None:
        self.transport.abort()


def _without_upgrades(connection: bytes) -> bytes:
    return b",".join(each for each in connection.split(b",") if each.strip().lower() not in UPGRADES)


def _closing_unless_continued(cycle: RequestResponseCycle, app: App) -> App:
    """A client that is answered in place of 100 Continue may send the body or not: what comes next on the connection
    could be either that or a request, and so nothing may."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if cycle.waiting_for_100_continue and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, closing)

    return asked
