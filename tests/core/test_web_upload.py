"""The web process for real: uploads that would fill a memory, strangers, ports, and stopping with open streams."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.conf import settings

from apps.accounts.models import Project
from apps.batches.models import File
from tests.batches.cast import make_batch, make_file
from tests.core.web import MIB, Web

UPLOAD = 100 * MIB
BOUNDARY = "frontier"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n'
).encode()
END = f"\r\n--{BOUNDARY}--\r\n".encode()

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


def form(size: int) -> Iterator[bytes]:
    yield FORM
    for _ in range(size // MIB):
        yield b"x" * (MIB - 1) + b"\n"
    yield END


def upload(web: Web, size: int, authorization: str) -> tuple[int, bytes]:
    return web.request(
        "POST",
        "/v1/files",
        form(size),
        Content_Type=f"multipart/form-data; boundary={BOUNDARY}",
        Content_Length=str(len(FORM) + size + len(END)),
        Authorization=authorization,
    )


def test_it_works(web: Web, key: str) -> None:
    """100 MiB go through to disk, back again, and not through memory."""
    before = web.peak
    status, body = upload(web, UPLOAD, f"Bearer {key}")
    assert status == 200, body
    file = json.loads(body)
    assert file["bytes"] == UPLOAD
    status, content = web.request("GET", f"/v1/files/{file['id']}/content", Authorization=f"Bearer {key}")
    assert (status, len(content)) == (200, UPLOAD)
    assert web.peak - before < 64 * MIB
    assert not list(settings.FILE_UPLOAD_TEMP_DIR.iterdir())


@pytest.mark.parametrize("authorization", ["", "Bearer sk-unknown"])
def test_it_rejects_strangers_before_their_upload(web: Web, authorization: str) -> None:
    connection = web.connect()
    connection.putrequest("POST", "/v1/files")
    for name, value in {"Content-Length": str(UPLOAD), "Authorization": authorization}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 401  # nothing of the body was sent yet


@pytest.mark.parametrize("path", ["/v1/batches", "/admin/login/", "/", "/v1/nothing"])
def test_it_rejects_large_bodies_elsewhere(web: Web, key: str, path: str) -> None:
    before = web.peak
    headers = {"Authorization": f"Bearer {key}", "Content_Length": str(UPLOAD)}
    try:
        status, _ = web.request("POST", path, form(UPLOAD - len(FORM) - len(END)), **headers)
    except ConnectionError:
        status = 413  # it hung up on us
    assert status == 413
    assert web.peak - before < 16 * MIB


def test_it_rejects_a_chunked_body_without_end(web: Web, key: str) -> None:
    """No length is declared: it is counted as it comes."""
    connection = web.connect()
    connection.putrequest("POST", "/v1/batches")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Authorization", f"Bearer {key}")
    connection.endheaders()
    for _ in range(3):
        connection.send(b"%x\r\n%s\r\n" % (MIB, b"x" * MIB))
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["code"] == "request_too_large"


def test_it_survives_an_upload_that_is_cut(web: Web, key: str) -> None:
    connection = web.connect()
    connection.putrequest("POST", "/v1/files")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(UPLOAD))
    connection.putheader("Authorization", f"Bearer {key}")
    connection.endheaders()
    connection.send(FORM + b"x" * 4 * MIB)
    connection.close()
    assert web.request("GET", "/healthz")[0] == 200
    assert not File.objects.exists()
    assert not list(settings.FILE_UPLOAD_TEMP_DIR.iterdir())


def test_it_survives_endless_headers(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for number in range(100_000):
                client.sendall(b"X-%d: %s\r\n" % (number, b"a" * 100))
            answer = client.recv(100)
        except ConnectionError:
            answer = b""
    assert not answer or b" 400 " in answer
    assert web.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("charset", ["hex", "idna", "utf-16", "nonsense"])
def test_it_survives_a_strange_charset(web: Web, key: str, charset: str) -> None:
    headers = {"Content_Type": f"application/json; charset={charset}", "Authorization": f"Bearer {key}"}
    status, body = web.request("POST", "/v1/batches?a=b", b"{}", **headers)
    assert (status, json.loads(body)["error"]["code"]) == (400, "missing_required_parameter")


def test_it_survives_clients_that_do_not_read(web: Web, project: Project, key: str) -> None:
    """More slow downloads than the pool has connections keep nobody from the database."""
    file = make_file(project, b"x" * 16 * MIB)
    downloads = [web.connect() for _ in range(20)]
    for download in downloads:
        download.request("GET", f"/v1/files/{file.uid}/content", headers={"Authorization": f"Bearer {key}"})
    for download in downloads:
        assert download.getresponse().status == 200
    began = time.monotonic()
    assert web.request("GET", "/v1/models", Authorization=f"Bearer {key}")[0] == 200
    assert time.monotonic() - began < 3


def test_it_rejects_an_unknown_socket_quietly(web: Web) -> None:
    status, _ = web.request(
        "GET",
        "/ws/none",
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        Origin=f"http://127.0.0.1:{web.port}",
    )
    assert status == 403


def test_it_stops_within_five_seconds_with_an_open_stream(web: Web, project: Project, key: str) -> None:
    batch = make_batch(project)
    connection = web.connect()
    connection.request("GET", f"/v1/batches/{batch.uid}/events", headers={"Authorization": f"Bearer {key}"})
    stream = connection.getresponse()
    assert stream.readline().startswith(b"event:")
    began = time.monotonic()
    web.process.send_signal(signal.SIGTERM)
    web.process.wait(10)
    assert time.monotonic() - began < 5


def test_it_says_which_port_is_in_use(process_env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {**process_env, "API_PORT": str(port), "WEB_PORT": str(port)}
        command = [sys.executable, "-m", "batchserver.web"]
        done = subprocess.run(command, env=env, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("API_PORT", "99999"), ("BATCH_SHARD_LINES", "0"), ("FILE_MAX_BYTES", "-1")]
)
def test_it_rejects_settings_that_cannot_work(process_env: dict[str, str], name: str, value: str) -> None:
    command = [sys.executable, "-m", "batchserver.web"]
    env = {**process_env, name: value}
    done = subprocess.run(command, env=env, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{name} is {value}." in done.stderr
