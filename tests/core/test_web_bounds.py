"""What strangers cost the web process: bytes around bodies, half requests, silence, many connections."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from apps.core.api.body_limit import Message
from apps.core.api.errors import ApiError
from batchserver import health, limits
from tests.core.web import MIB, Web

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


async def test_keys_are_looked_up_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = threading.Barrier(4, timeout=10)  # broken unless four are in it

    def look(digest: str) -> str:
        at_once.wait()
        raise ApiError(401, "Unknown.")

    monkeypatch.setattr(limits, "_digest_of_live", look)
    scopes = [
        {"path": "/v1/files", "method": "POST", "headers": [(b"authorization", b"Bearer sk-%d" % number)]}
        for number in range(4)
    ]
    answers = await asyncio.gather(*map(limits.limit_of, scopes), return_exceptions=True)
    assert [getattr(answer, "status_code", None) for answer in answers] == [401] * 4
