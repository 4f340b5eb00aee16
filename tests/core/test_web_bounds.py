"""What strangers cost the web process: bytes around bodies, half requests, silence, many connections."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from asgiref.sync import AsyncToSync
from django.conf import settings
from django.contrib.auth.models import User
from django.db.backends.utils import CursorWrapper
from django.test import Client
from websockets import Origin
from websockets.sync.client import connect as websockets_client

from apps.core.api.body_limit import App, Message
from apps.core.api.handler import Handler
from batchserver import health, limits, websocket_protocol
from tests.core.web import MIB, Web
from tests.fakes.hostile.clients import LARGE

pytestmark = pytest.mark.django_db(transaction=True)

CONNECTIONS = 40
BOUNDS = {
    "WEB_MAX_CONNECTIONS": str(CONNECTIONS), "WEB_HEAD_SECONDS": "1", "WEB_BODY_SECONDS": "1",
    "WEB_BODY_BYTES_PER_SECOND": "1000",
}  # fmt: skip
CHUNKED = b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def web(process_env: dict[str, str], strict: list[Web]) -> Web:
    if not strict:
        strict.append(Web({**process_env, **BOUNDS}))
    strict[0].forget_peak()
    return strict[0]


@pytest.fixture(scope="module")
def strict() -> Iterator[list[Web]]:
    started: list[Web] = []
    yield started
    for web in started:
        web.process.kill()
        web.process.wait()


def connect(web: Web) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), timeout=20)


def heard(client: socket.socket) -> bytes:
    """All that the server says until it hangs up."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            said += piece
    return said


def pour(client: socket.socket, piece: bytes, most: int) -> int:
    """Send the piece again and again, until the server hangs up or so many bytes went."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most:
            client.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.live
@pytest.mark.parametrize(
    "flood",
    [
        pytest.param([b"0\r\nX-Trailer: ", b"a" * MIB], id="one trailer without end"),
        pytest.param([b"0\r\n", b"X-Trailer: %s\r\n" % (b"a" * 1000)], id="many trailers"),
        pytest.param([b"1;", b"a" * MIB], id="one extension without end"),
        pytest.param([b"", b"1;a=%s\r\nx\r\n" % (b"a" * 10_000)], id="an extension for each byte"),
    ],
)
def test_what_frames_a_body_is_bounded(web: Web, flood: list[bytes]) -> None:
    before = web.peak
    with connect(web) as client:
        client.sendall(CHUNKED + flood[0])
        assert pour(client, flood[1], 100 * MIB) < 20 * MIB
    assert web.peak - before < 8 * MIB
    assert web.request("GET", "/healthz")[0] == 200


@pytest.mark.live
def test_a_trailer_is_refused_in_words(web: Web) -> None:
    with connect(web) as client:
        client.sendall(CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n")
        said = heard(client)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"Trailers behind a chunked body are not taken" in said


@pytest.mark.live
@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"", b""),
        (b"\r\n", b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\r\nHost: local", b"HTTP/1.1 408 "),
        (b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 408 "),
        (CHUNKED + b"1\r\n", b"HTTP/1.1 408 "),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 408 "),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 "),
    ],
)
def test_half_a_request_has_an_end(web: Web, sent: bytes, says: bytes) -> None:
    with connect(web) as client:
        client.sendall(sent)
        said = heard(client)
    assert said.startswith(says)
    assert bool(said) == bool(says)


@pytest.mark.live
def test_who_is_refused_and_goes_on_sending_is_hung_up_on(web: Web) -> None:
    head = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
    with connect(web) as client:
        client.sendall(head)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 30:
                client.sendall(b"x")
                time.sleep(0.05)
    assert time.monotonic() - began < 20


@pytest.mark.live
def test_a_slow_but_steady_body_arrives(web: Web, key: str) -> None:
    """Three times as long as the window, at four times the least speed."""
    body = b'{"name": "%s"}' % (b"a" * 12_000)
    head = (
        f"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with connect(web) as client:
        client.sendall(head.encode())
        for at in range(0, len(body), 400):
            client.sendall(body[at : at + 400])
            time.sleep(0.1)
        assert heard(client).startswith(b"HTTP/1.1 400 ")  # the name is too long; it was read


@pytest.mark.live
def test_connections_without_a_request_make_room(web: Web, key: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * CONNECTIONS):
            stack.enter_context(connect(web)).sendall(b"GET / HTTP/1.1\r\nX: ")
        began = time.monotonic()
        assert web.request("GET", "/v1/models", Authorization=f"Bearer {key}")[0] == 200
        assert time.monotonic() - began < 5


@pytest.mark.live
def test_silent_sockets_make_room(web: Web, key: str) -> None:
    session = logged_in()
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(page_socket(web, session))
        time.sleep(websocket_protocol.SILENT_SECONDS + 1)
        assert web.request("GET", "/v1/models", Authorization=f"Bearer {key}")[0] == 200


def logged_in() -> str:
    """The session of somebody who is logged in."""
    browser = Client()
    browser.force_login(User.objects.create(username="viewer"))
    return browser.cookies[settings.SESSION_COOKIE_NAME].value


def page_socket(web: Web, session: str) -> Any:
    return websockets_client(
        f"ws://127.0.0.1:{web.port}/ws/progress",
        origin=Origin(f"http://127.0.0.1:{web.port}"),
        additional_headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={session}"},
        close_timeout=1,
    )


@pytest.mark.live
def test_readers_of_a_file_who_stall_cost_little(web: Web) -> None:
    heard(ask_for_file(web, b"Connection: close\r\n"))
    web.forget_peak()
    before = web.peak
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ask_for_file(web, b"")) for _ in range(CONNECTIONS - 5)]
        for client in clients:
            assert client.recv(10)
        time.sleep(0.5)
        assert web.peak - before < len(clients) * MIB / 2


def ask_for_file(web: Web, header: bytes) -> socket.socket:
    """A client that takes a file of 1.4 MB in small bites."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(("127.0.0.1", web.port))
    client.sendall(f"GET {LARGE} HTTP/1.1\r\nHost: localhost\r\n".encode() + header + b"\r\n")
    return client


@pytest.mark.live
def test_strangers_bodies_are_small(web: Web, key: str) -> None:
    body = b'{"name": "%s"}' % (b"a" * 100_000)
    headers = {"Content_Type": "application/json"}
    assert web.request("POST", "/v1/datasets", body, **headers)[0] == 413
    assert web.request("POST", "/admin/login/", body, **headers)[0] == 413
    assert web.request("POST", "/v1/datasets", body, **headers, Authorization=f"Bearer {key}")[0] == 400


async def test_health_is_looked_up_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look() -> int:
        looks.append(1)
        time.sleep(0.1)
        return 200

    monkeypatch.setattr(health, "_status_of_database", look)
    app = health.Health(lambda *_: asyncio.sleep(0))
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "path": "/healthz", "method": "GET"}
    await asyncio.gather(*(app(scope, receive, send) for _ in range(50)))
    assert (len(looks), statuses) == (1, [200] * 50)


async def test_a_crowd_of_keys_costs_few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none waits for another's."""
    queries = []
    execute = CursorWrapper.execute

    def counted(self: CursorWrapper, sql: str, params: Any = None) -> Any:
        queries.append(sql)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", counted)
    scopes = [
        {"path": "/v1/files", "method": "POST", "headers": [(b"authorization", b"Bearer sk-%d" % number)]}
        for number in range(50)
    ]
    for _ in range(2):
        answers = await asyncio.gather(*map(limits.limit_of, scopes), return_exceptions=True)
        assert [getattr(answer, "status_code", None) for answer in answers] == [401] * 50
    assert 0 < len([sql for sql in queries if "accounts_apikey" in sql]) <= 2


async def test_a_login_is_looked_up_once_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look(session: str) -> str:
        looks.append(session)
        if session == "guessed":
            raise limits.NotLoggedInError
        return session

    monkeypatch.setattr(limits, "_logged_in", look)

    async def limit(session: str) -> int:
        cookie = f"{settings.SESSION_COOKIE_NAME}={session}".encode()
        return await limits.limit_of({"path": "/admin/x/", "method": "POST", "headers": [(b"cookie", cookie)]})

    assert [await limit("mine") for _ in range(3)] == [settings.FILE_MAX_BYTES + limits.FORM_BYTES] * 3
    assert [await limit("guessed") for _ in range(2)] == [settings.WEB_ANONYMOUS_BYTES] * 2
    assert looks == ["mine", "guessed", "guessed"]


async def test_a_request_to_django_changes_threads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way back to the event loop is a wait behind all that strangers keep it busy with."""
    ways_back = []
    call = AsyncToSync.__call__

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        ways_back.append(self.awaitable)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(AsyncToSync, "__call__", counted)
    status, _ = await ask(cast(App, Handler()), "/v1/models")
    assert (status, ways_back) == (401, [])


async def ask(app: App, path: str) -> tuple[int, bytes]:
    """The answer to a GET."""
    status, body, asked = 0, b"", False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await asyncio.sleep(60)
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    scope = {"type": "http", "path": path, "method": "GET", "headers": [(b"host", b"localhost")], "query_string": b""}
    await app(scope, receive, send)
    return status, body
