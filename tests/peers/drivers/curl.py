"""curl: each way in which HTTP/1 carries a body, on the routes with JSON and with forms."""

import json
import re
import subprocess
from functools import partial
from pathlib import Path

from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, lines, run_checks, tell_version

CONTENT = lines("one", "two")
Path("input.jsonl").write_bytes(CONTENT)
WAYS = {
    "with its length": [],
    "chunked": ["-H", "Transfer-Encoding: chunked"],
    "by HTTP/1.0": ["--http1.0"],
    "with Expect: 100-continue": ["-H", "Expect: 100-continue"],
    "with Connection: close": ["-H", "Connection: close"],
    "compressed": ["--compressed", "-H", "Accept-Encoding: br, zstd, gzip"],
}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
JSON_ROUTES = {
    "/chat/completions": CHAT,
    "/completions": {"model": MODEL, "prompt": "Hello", "max_tokens": 4},
    "/responses": {"model": MODEL, "input": "Hello", "max_output_tokens": 16},
}


def curl(path: str, *options: str, key: str = KEY) -> tuple[int, bytes]:
    """Status and body."""
    command = ["curl", "-sS", "--max-time", "120", "-H", f"Authorization: Bearer {key}", "-w", "\n%{http_code}"]
    done = subprocess.run([*command, *options, URL + path], capture_output=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def upload(options: list[str]) -> str:
    status, body = curl("/files", *options, "-F", "purpose=batch", "-F", "file=@input.jsonl")
    assert status == 200, body
    file = json.loads(body)
    assert file["bytes"] == len(CONTENT), file
    return str(file["id"])


def upload_and_read(options: list[str]) -> None:
    status, body = curl(f"/files/{upload(options)}/content", *(options if "chunked" not in str(options) else []))
    assert (status, body) == (200, CONTENT), (status, body)


def post(path: str, data: dict[str, object], options: list[str]) -> None:
    status, body = curl(path, *options, "-H", "Content-Type: application/json", "-d", json.dumps(data))
    assert status == 200, body
    assert json.loads(body)


def create_batch(options: list[str]) -> None:
    data = {"input_file_id": upload([]), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    post("/batches", data, options)


for way, options in WAYS.items():
    check(f"upload {way}")(partial(upload_and_read, options))
    check(f"POST /batches {way}")(partial(create_batch, options))
    for path, data in JSON_ROUTES.items():
        check(f"POST {path} {way}")(partial(post, path, data, options))


@check("a file with another's type, and a form with its purpose at the end")
def types() -> None:
    for file in ("file=@input.jsonl;type=application/json", "file=@input.jsonl;type=text/plain"):
        status, body = curl("/files", "-F", "purpose=batch", "-F", file)
        assert status == 200, body
    status, body = curl("/files", "-F", "file=@input.jsonl", "-F", "purpose=batch")
    assert status == 200, body


@check("an event stream")
def stream() -> None:
    data = json.dumps({**CHAT, "stream": True})
    status, body = curl("/chat/completions", "-N", "-H", "Content-Type: application/json", "-d", data)
    assert status == 200
    assert body.rstrip().endswith(b"data: [DONE]"), body


@check("an event stream by HTTP/1.0")
def old_stream() -> None:
    data = json.dumps({**CHAT, "stream": True})
    status, body = curl("/chat/completions", "--http1.0", "-H", "Content-Type: application/json", "-d", data)
    assert status == 200
    assert body.rstrip().endswith(b"data: [DONE]"), body


@check("HTTP/2 is refused at once")
def http2() -> None:
    command = ["curl", "-sS", "--max-time", "20", "--http2-prior-knowledge", URL + "/models"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode not in {0, 28}, done  # 28: it waited until the end


@check("an upgrade to HTTP/2 is passed over")
def upgrade() -> None:
    status, body = curl("/models", "--http2")
    assert status == 200, body


@check("a bad key with a large body")
def bad_key() -> None:
    Path("large.jsonl").write_bytes(b"x" * 5_000_000)
    status, body = curl("/files", "-F", "purpose=batch", "-F", "file=@large.jsonl", key="sk-bad")
    assert status == 401, (status, body)


@check("a bad key with a large chunked body")
def bad_key_chunked() -> None:
    options = ["-H", "Transfer-Encoding: chunked", "-F", "purpose=batch", "-F", "file=@large.jsonl"]
    status, body = curl("/files", *options, key="sk-bad")
    assert status == 401, (status, body)


@check("a range of a file")
def part_of_a_file() -> None:
    status, body = curl(f"/files/{upload([])}/content", "-r", "0-9")
    assert (status, body) == (206, CONTENT[:10]), (status, body)


@check("HEAD")
def head() -> None:
    status, _ = curl("/models", "-I")
    assert status == 200, status


@check("an unknown route is JSON")
def unknown() -> None:
    for path in ("/nothing", "/../nothing"):
        status, body = curl(path, "--path-as-is")
        assert status == 404, body
        assert json.loads(body)["error"]["message"], body


for way, options in WAYS.items():
    data = {"model": EMBEDDING_MODEL, "input": "one"}
    check(f"POST /embeddings {way}")(partial(post, "/embeddings", data, options))

found = re.search(
    r"curl (\S+)", subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
)
tell_version(found[1] if found else "?")
run_checks()
