"""Requests that are broken on the wire: each gets a clear 4xx, and leaves no row and no byte behind."""

import json
import socket
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conformance.lines import CHAT, chats, jsonl
from tests.conformance.site import Site

pytestmark = pytest.mark.live
BOUNDARY = "limit"
CONTENT = jsonl(chats("one", "two"))
DEEP = 100_000


def form(content: bytes, *, name: str = "in.jsonl", closed: bool = True) -> bytes:
    """A multipart form with a purpose and a file."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n'
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    )
    return head.encode() + content + (f"\r\n--{BOUNDARY}--\r\n".encode() if closed else b"")


def send(site: Site, body: bytes, *, length: int | None = None, hang_up: bool = False, role: str = "owner") -> bytes:
    """POST /v1/files on a socket of our own; what comes back until the server closes it."""
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {site.keys.get(role, role)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.stack.api_port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def answered(received: bytes) -> tuple[int, Any]:
    """Status and body of an answer as it came."""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)


def test_it_works(site: Site) -> None:
    assert send(site, form(CONTENT)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [0, 100, 1_000_000, 20_000_000])
def test_it_survives_an_upload_that_breaks_off(site: Site, size: int) -> None:
    before = site.belongings()
    body = form(b"x" * size, closed=False)
    assert b" 200 " not in send(site, body, length=len(body) + 1_000, hang_up=True)[:20]
    assert site.has_only(before)
    assert site.upload(CONTENT).bytes == len(CONTENT)


def test_it_rejects_a_form_without_its_end(site: Site) -> None:
    before = site.belongings()
    answer = send(site, form(CONTENT, closed=False))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"send it again" in answer
    assert site.has_only(before)


def test_it_rejects_strangers_before_they_have_sent_anything(site: Site) -> None:
    """The answer comes although the body never does."""
    before = site.belongings()
    assert send(site, b"", length=500_000_000, role="sk-nobody").startswith(b"HTTP/1.1 401")
    assert site.has_only(before)


def test_it_rejects_a_file_beyond_the_limit_from_its_length_alone(site: Site) -> None:
    assert send(site, b"", length=600 * 1024**2).startswith(b"HTTP/1.1 413")


def test_it_rejects_an_empty_file(site: Site) -> None:
    before = site.belongings()
    with pytest.raises(openai.BadRequestError) as caught:
        site.upload(b"")
    assert "empty" in caught.value.message
    assert caught.value.param == "file"
    assert site.has_only(before)


@pytest.mark.parametrize("name", ["a\0b.jsonl", "\0.jsonl", "../../etc/passwd.jsonl", "", "a\nb.jsonl"])
def test_it_keeps_names_to_names(site: Site, name: str) -> None:
    """Refused, or kept as a plain name: what a file is called never decides where it lies."""
    before = site.belongings()
    status, answer = answered(send(site, form(CONTENT, name=name)))
    if status == 200:
        stored = site.client().files.retrieve(answer["id"])
        assert "/" not in stored.filename
        ((content,),) = site.sql("SELECT content FROM batches_file WHERE uid = %s", stored.id)
        assert Path(content).name == stored.id
        site.client().files.delete(stored.id)
    else:
        assert status == 400
    assert site.has_only(before)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{no", "could not parse"),
        (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
        (b'{"metadata": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}", "nested too deeply"),
        (b'{"endpoint": "\xff"}', "could not parse"),
        (b'{"endpoint": NaN}', "could not parse"),
        (b"", ""),
        (b"42", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'{"input_file_id": "a\0b"}', "could not parse"),
        (b'{"input_file_id": "\\u0000", "endpoint": "/v1/embeddings", "completion_window": "24h"}', "NUL"),
        (b'{"input_file_id": "\\ud800", "endpoint": "/v1/embeddings", "completion_window": "24h"}', ""),
        (b'{"priority": 1e400}', ""),
        (b'{"priority": ' + b"9" * 5_000 + b"}", ""),
    ],
)
def test_it_rejects_a_bad_json_body(site: Site, body: bytes, words: str) -> None:
    before = site.belongings()
    answer = site.http().post("/batches", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert site.has_only(before)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "nonsense", "application/json; charset=utf-16"])
def test_it_rejects_other_kinds_of_bodies(site: Site, kind: str) -> None:
    before = site.belongings()
    body = json.dumps({"endpoint": CHAT, "completion_window": "24h"}).encode()
    answer = site.http().post("/batches", content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 415)
    assert site.has_only(before)


def test_it_rejects_a_large_json_body(site: Site) -> None:
    body = json.dumps({"metadata": {"key": "x" * 2_000_000}}).encode()
    with pytest.raises(openai.APIStatusError) as caught:
        site.client().post("/batches", cast_to=object, body=json.loads(body))
    assert caught.value.status_code == 413
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize(
    "path", ["/files/%00", "/batches/%00/cancel", "/batches/a%2Fb", f"/files/{'x' * 5000}", "/%ff"]
)
def test_it_rejects_odd_paths(site: Site, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert site.http().request(method, path).status_code in (404, 405)
