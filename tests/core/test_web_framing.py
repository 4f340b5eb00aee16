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
