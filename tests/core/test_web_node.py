"""Uploads as Node's stock client sends them: no length, each piece of the form in a chunk and a segment of its own, the
file before its purpose, on a connection that is used again."""

import http.client
import json

import pytest

from tests.core.web import Web

BOUNDARY = "openai-k3v9x1m7"
FILE = b'{"custom_id": "one"}\n' * 4

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


def form(name: str = "input.jsonl") -> list[bytes]:
    """The pieces of a form, as the client cuts them."""
    separator = f"--{BOUNDARY}\r\n".encode()
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
    return [
        separator,
        f"{disposition}Content-Type: application/octet-stream\r\n\r\n".encode(),
        *(FILE[at : at + 21] for at in range(0, len(FILE), 21)),
        b"\r\n",
        separator,
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch',
        b"\r\n",
        f"--{BOUNDARY}--\r\n".encode(),
    ]


def send(connection: http.client.HTTPConnection, key: str, pieces: list[bytes]) -> tuple[int, dict[str, object]]:
    """Status and answer."""
    connection.putrequest("POST", "/v1/files", skip_accept_encoding=True)
    for name, value in {
        "connection": "keep-alive",
        "accept": "application/json",
        "x-stainless-retry-count": "0",
        "authorization": f"Bearer {key}",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "accept-language": "*",
        "sec-fetch-mode": "cors",
        "accept-encoding": "gzip, deflate",
        "transfer-encoding": "chunked",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    for piece in [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]:
        connection.send(piece)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_it_works(web: Web, key: str) -> None:
    status, file = send(web.connect(), key, form())
    assert (status, file["filename"], file["bytes"], file["purpose"]) == (200, "input.jsonl", len(FILE), "batch"), file


def test_one_connection_carries_several(web: Web, key: str) -> None:
    connection = web.connect()
    assert [send(connection, key, form(f"{number}.jsonl"))[0] for number in range(3)] == [200, 200, 200]


def test_a_refusal_leaves_the_connection_in_order(web: Web, key: str) -> None:
    """Whether or not it is closed: what was left of the refused body is never taken for the next request."""
    connection = web.connect()
    assert send(connection, "sk-wrong", form())[0] == 401
    assert send(connection, key, form("input.txt"))[0] == 400
    assert send(connection, key, form())[0] == 200
