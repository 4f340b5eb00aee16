"""A body arrives whole however HTTP/1.1 carries it, at every route that takes one; what is ambiguous is refused."""

import json
import re
import secrets

import pytest

from tests.core.web import Web
from tests.routes import ROUTES

WITH_BODY = sorted({route for route in ROUTES if route.split()[0] in ("POST", "PATCH")})
BROKEN = b'{"broken": '  # whoever reads it complains of the JSON, and not of what is missing
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BOUNDARY = "frontier"

Pieces = list[bytes]

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


def _chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def by_length(head: bytes, body: bytes) -> Pieces:
    return [b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)]


def in_two_segments(head: bytes, body: bytes) -> Pieces:
    return [b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body[:3]), body[3:]]


def chunked(head: bytes, body: bytes) -> Pieces:
    return [head + b"Transfer-Encoding: chunked\r\n\r\n", _chunks(body, 1 << 16)]


def chunked_with_extensions(head: bytes, body: bytes) -> Pieces:
    return [head + b"transfer-encoding: Chunked\r\n\r\n%X;a=b\r\n%s\r\n0;c\r\n\r\n" % (len(body), body)]


def byte_by_byte(head: bytes, body: bytes) -> Pieces:
    return [head + b"Transfer-Encoding: chunked\r\n\r\n", _chunks(body, 1)]


def http_1_0(head: bytes, body: bytes) -> Pieces:
    return by_length(head.replace(b"HTTP/1.1", b"HTTP/1.0"), body)


def expecting(head: bytes, body: bytes) -> Pieces:
    return [b"%sContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (head, len(body)), body]


CARRIERS = (by_length, in_two_segments, chunked, chunked_with_extensions, byte_by_byte, http_1_0, expecting)


def head(route: str, key: str, content_type: str = "application/json") -> bytes:
    method, path = route.split()
    path = re.sub(r"<int:\w+>", "1", re.sub(r"<\w+:\w+>", f"x_{'0' * 32}", path))
    lines = (f"{method} /v1/{path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", "Connection: close")
    return "\r\n".join([*lines, f"Content-Type: {content_type}", ""]).encode()


def sent(web: Web, carrier: object, head: bytes, body: bytes) -> tuple[int, bytes]:
    pieces = carrier(head, body)  # type: ignore[operator]
    return web.send(*pieces, wait_for=CONTINUE if carrier is expecting else b"")


@pytest.mark.parametrize("route", WITH_BODY)
def test_every_route_reads_the_same_body(web: Web, key: str, route: str) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}" if route == "POST files" else "application/json"
    answers = {carrier.__name__: sent(web, carrier, head(route, key, kind), BROKEN) for carrier in CARRIERS}
    assert len(set(answers.values())) == 1, answers
    assert answers["chunked"][0] < 500


@pytest.mark.parametrize("carrier", CARRIERS)
def test_json_is_read(web: Web, key: str, carrier: object) -> None:
    name = f"carried {secrets.token_hex(4)}"
    status, body = sent(web, carrier, head("POST datasets", key), json.dumps({"name": name}).encode())
    assert (status, json.loads(body).get("name")) == (200, name), body


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_upload_is_read(web: Web, key: str, carrier: object) -> None:
    form = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{{}}\n\r\n--{BOUNDARY}--\r\n"
    ).encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    status, body = sent(web, carrier, head("POST files", key, kind), form)
    assert (status, json.loads(body).get("bytes")) == (200, 3), body


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_form_of_the_pages_is_read(web: Web, carrier: object) -> None:
    """The login's form without its token: Django looks for that in the body."""
    fields = b"username=nobody&password=wrong"
    lines = (b"POST /admin/login/ HTTP/1.1", b"Host: localhost", b"Cookie: csrftoken=%s" % (b"a" * 32), b"")
    first = b"\r\n".join([*lines[:-1], b"Content-Type: application/x-www-form-urlencoded", b"Connection: close", b""])
    fields += b"&csrfmiddlewaretoken=" + b"a" * 32
    status, body = sent(web, carrier, first, fields)
    assert status == 200, body
    assert b"correct username and password" in body


LENGTH, CHUNKED = b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("framing", "body", "status"),
    [
        (LENGTH + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + LENGTH, b"2\r\n{}\r\n0\r\n\r\n", 400),
        (LENGTH + b"Content-Length: 3\r\n", b"{}", 400),
        (b"Content-Length: +2\r\n", b"{}", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", 501),
        (b"Transfer-Encoding: chunked, identity\r\n", b"2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED, b"xyz\r\n{}\r\n0\r\n\r\n", 400),
    ],
)
def test_it_rejects_what_is_ambiguous(web: Web, key: str, framing: bytes, body: bytes, status: int) -> None:
    assert web.send(head("POST datasets", key) + framing + b"\r\n" + body)[0] == status
