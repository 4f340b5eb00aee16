"""What HTTP/1.1 leaves to the server: upgrades that it does not know, codings, pipelining, and who does not read."""

import contextlib
import json
import shutil
import socket
import subprocess

import pytest

from tests.core.web import MIB, Web

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

BROKEN = b'{"broken": '  # whoever reads it complains of the JSON
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CROWD = 20
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def head(key: str, *more: bytes, version: bytes = b"1.1") -> bytes:
    lines = b"Host: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + key.encode()
    return b"POST /v1/datasets HTTP/%s\r\n%s\r\n%s\r\n" % (version, lines, b"".join(more))


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def chunks(body: bytes) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def message(answer: tuple[int, bytes]) -> str:
    return str(json.loads(answer[1])["error"]["message"])


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(lambda key: [head(key, H2C, length(BROKEN)) + BROKEN], id="a length"),
        pytest.param(lambda key: [head(key, H2C, length(BROKEN)), BROKEN], id="the body by itself"),
        pytest.param(lambda key: [head(key, H2C, CHUNKED), chunks(BROKEN)], id="chunks"),
    ],
)
def test_a_body_arrives_beside_an_upgrade_that_is_unknown(web: Web, key: str, pieces: object) -> None:
    """Java's and curl's clients offer HTTP/2 with each first request."""
    assert "could not parse the JSON" in message(web.send(*pieces(key)))  # type: ignore[operator]


def test_a_body_arrives_from_curl_that_offers_http_2(web: Web, key: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl here")
    url = f"http://127.0.0.1:{web.port}/v1/datasets"
    headers = ["-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {key}"]
    done = subprocess.run(
        [curl, "-sS", "-m", "30", "--http2", *headers, "--data-binary", BROKEN, url], capture_output=True, check=True
    )
    assert "could not parse the JSON" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("framing", "version", "status"),
    [
        (b"Transfer-Encoding: gzip, chunked\r\n", b"1.1", 501),
        (b"Transfer-Encoding: gzip\r\n", b"1.1", 501),
        (CHUNKED, b"1.0", 400),
    ],
)
def test_it_rejects_codings_that_it_cannot_read(
    web: Web, key: str, framing: bytes, version: bytes, status: int
) -> None:
    assert web.send(head(key, framing, version=version) + chunks(BROKEN))[0] == status


def test_a_trailer_does_not_replace_a_header(web: Web, key: str) -> None:
    """The key that was checked is the key that counts."""
    end = b"2\r\n{}\r\n0\r\nAuthorization: Bearer sk-another\r\n\r\n"
    assert web.send(head(key, CHUNKED) + end)[0] == 400


def test_pipelined_requests_are_answered_in_order(web: Web, key: str) -> None:
    bodies = [b"{}", BROKEN, b'{"name": ""}', BROKEN]
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        client.sendall(b"".join(head(key, CHUNKED) + chunks(body) for body in bodies))
        reader = client.makefile("rb")
        found = [_read(reader) for _ in bodies]
    assert found == [web.send(head(key, length(body)) + body) for body in bodies]


def _read(reader: object) -> tuple[int, bytes]:
    lines = iter(reader.readline, b"\r\n")  # type: ignore[attr-defined]
    status = int(next(lines).split()[1])
    size = next(int(line.split(b":")[1]) for line in list(lines) if line.lower().startswith(b"content-length:"))
    return status, reader.read(size)  # type: ignore[attr-defined]


def test_pipelining_without_end_costs_little(web: Web) -> None:
    """Whoever sends thousands of requests at once is hung up on, before each of them is a request in memory."""
    web.request("GET", "/")
    web.forget_peak()
    before = web.peak
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=30))
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
        assert web.request("GET", "/healthz")[0] == 200
        assert web.peak - before < 8 * MIB


def in_chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("size", "length", "says"),
    [
        pytest.param(1, 10_000, "could not parse the JSON", id="a few thousand of one byte"),
        pytest.param(6, 200_000, "could not parse the JSON", id="many short lines"),
        pytest.param(1, 200_000, "more framing than body", id="one byte each, without end"),
    ],
)
def test_chunks_may_be_small_but_not_all_of_them(web: Web, key: str, size: int, length: int, says: str) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        with contextlib.suppress(ConnectionError):  # while it still sends
            client.sendall(head(key, CHUNKED) + in_chunks(BROKEN + b" " * length, size))
        status, body = _read(client.makefile("rb"))
    assert (status, says in message((status, body))) == (400, True)


UPLOAD = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


def test_who_expects_to_go_on_and_is_refused_is_hung_up_on(web: Web) -> None:
    """Its next bytes could be the body or a request: RFC 9110 §10.1.1."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=4) as client:  # less than connections are kept
        client.sendall(UPLOAD)
        reader = client.makefile("rb")
        said = reader.read()
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in said.lower()


def test_who_expects_to_go_on_and_sends_the_body_at_once_stays_connected(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        reader = client.makefile("rb")
        for _ in range(2):
            client.sendall(UPLOAD + b"12345")
            assert _read(reader)[0] == 401


def test_http_1_0_is_not_told_to_go_on(web: Web, key: str) -> None:
    """It would take 100 Continue for the answer."""
    lines = length(BROKEN) + b"Expect: 100-continue\r\n"
    answer = web.send(head(key, lines, version=b"1.0") + BROKEN)
    assert "could not parse the JSON" in message(answer)


FIELD = b"X: %s\r\n"


def test_a_head_is_bounded_however_it_comes(web: Web) -> None:
    large = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + FIELD % (b"a" * 50_000)
    assert web.send(large + b"\r\n")[0] == 200
    assert web.send(large + FIELD % (b"a" * 20_000) + b"\r\n")[0] == 431
    assert web.send(large + b"X: " + b"a" * 20_000)[0] == 431
    assert web.send(large, b"X: ", b"a" * 20_000)[0] == 431


@pytest.mark.parametrize("chunked", [False, True])
def test_what_comes_before_a_head_does_not_count_to_it(web: Web, key: str, chunked: bool) -> None:
    body = BROKEN + b" " * 150_000
    first = head(key, CHUNKED) + in_chunks(body, 1000) if chunked else head(key, length(body)) + body
    second = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + FIELD % (b"a" * 50_000) + b"\r\n"
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        reader = client.makefile("rb")
        for cut in range(100, len(second), 9_000):
            client.sendall(first + second[:cut])
            client.sendall(second[cut:])
            assert [_read(reader)[0], _read(reader)[0]] == [400, 200]
