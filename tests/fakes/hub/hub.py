"""A hub for tests: a program that huggingface_hub talks to, as it does to https://huggingface.co.

    python hub.py ROOT

Serves the repositories ROOT/owner/name, and prints its port. What a repository's `.hub.json` says is done at once:

    gated, private, tokens   access; `tokens` are those that have it
    license, parameters      what its card and its safetensors say
    rate                     bytes a second
    hold_at                  nothing more is sent once a file has come so far, until this changes
    drop_at                  the connection is closed there, once for each file
    status                   every answer has it
    busy                     {"status", "retry_after", "times", "files"}: so many answers (of files only) have it
    whole                    files are sent from their beginning, whatever part is asked for
    lies                     path -> bytes that are sent instead of the file's

Datasets are ROOT/datasets/owner/name. They and models are made and filled through the API: any token may make one, and
may write to those whose `.hub.json` names it. `hold` there: no upload is answered until this changes.

Every byte of a file that was sent is in ROOT/log.jsonl: {"repo", "path", "start", "end", "status"}.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PIECE = 16 * 1024
LFS_BYTES = 10_000
TICK = 0.02
DRIP_SECONDS = 0.1  # between two pieces of a slow answer, at most

INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
AUTH = re.compile(r"/api/models/([^/]+/[^/]+)/auth-check")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
DATASET = re.compile(r"/api/(datasets/[^/]+/[^/]+)(?:/(preupload|commit|tree|revision)/main)?")
MODEL = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit|tree)/main")
LFS_BATCH = re.compile(r"/((?:datasets/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch")
LFS_OBJECT = re.compile(r"/lfs/((?:datasets/)?[^/]+/[^/]+)/([0-9a-f]{64})")
CDN = re.compile(r"/cdn/([^/]+/[^/]+)/([0-9a-f]{64})/(.+)")


class Repo:
    """What is on disk, now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        behaviour = folder / ".hub.json"
        self.behaviour: dict[str, Any] = json.loads(behaviour.read_text()) if behaviour.exists() else {}
        everything = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".hub.json")
        self.files = {path.relative_to(folder).as_posix(): path for path in everything}

    @property
    def commit(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for name, path in self.files.items():
            digest.update(f"{name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        return digest.hexdigest()

    def sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name].read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if is_lfs(self.files[name]):
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry

    def info(self, name: str, *, blobs: bool) -> dict[str, Any]:
        siblings = [self.sibling(file) if blobs else {"rfilename": file} for file in self.files]
        info: dict[str, Any] = {
            "_id": "0", "id": name, "modelId": name, "sha": self.commit, "siblings": siblings, "tags": [],
            "private": bool(self.behaviour.get("private")), "gated": self.behaviour.get("gated", False),
            "disabled": False, "downloads": 0, "likes": 0, "cardData": {"license": self.behaviour.get("license")},
        }  # fmt: skip
        if parameters := self.behaviour.get("parameters"):
            info["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
        return info


def is_lfs(path: Path) -> bool:
    return path.suffix == ".safetensors" or path.stat().st_size > LFS_BYTES


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Hub"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if match := DATASET.fullmatch(path) or MODEL.fullmatch(path):
            self.show(match[1], match[2])
        elif match := AUTH.fullmatch(path):
            if repo := self.enter(match[1], downloads=True):
                self.json(200, {}, {"X-Repo-Commit": repo.commit})
        elif match := INFO.fullmatch(path):
            repo = self.enter(match[1], downloads=False)
            if repo and self.knows(repo, match[2] or "main"):
                self.json(200, repo.info(match[1], blobs="blobs=" in url.query))
        elif match := RESOLVE.fullmatch(path):
            repo = self.enter(match[1], downloads=True)
            if repo and self.knows(repo, match[2]):
                self.resolve(repo, match[1], match[3])
        elif (match := CDN.fullmatch(path)) and self.headers["Authorization"] is None:  # as signed addresses are
            self.send_file(Repo(self.server.root / match[1]), match[1], match[3], {"ETag": f'"{match[2]}"'})
        else:
            self.json(400, {"error": "Bad request"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def show(self, name: str, what: str | None) -> None:
        repo = self.enter(name, downloads=False)
        if repo and what == "tree":
            self.json(200, [{"type": "file", "path": file, "size": 0, "oid": "0"} for file in repo.files])
        elif repo:
            self.json(200, repo.info(name.removeprefix("datasets/"), blobs=False))

    # Writing

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.json(200, {"errors": [], "warnings": []})
        elif match := DATASET.fullmatch(path) or MODEL.fullmatch(path):
            if repo := self.enter_to_write(match[1]):
                self.preupload(repo, body) if match[2] == "preupload" else self.commit(repo, match[1], body)
        elif match := LFS_BATCH.fullmatch(path):
            if self.enter_to_write(match[1]):
                self.lfs_batch(match[1], json.loads(body))
        else:
            self.json(400, {"error": "Bad request"})

    def do_PUT(self) -> None:
        match, body = LFS_OBJECT.fullmatch(urlsplit(self.path).path), self.body()
        if match is None or hashlib.sha256(body).hexdigest() != match[2]:
            self.json(400, {"error": "These are not the bytes that were announced"})
            return
        while Repo(self.server.root / match[1]).behaviour.get("hold") and not self.is_gone():
            time.sleep(TICK)
        (self.server.root / f"lfs-{match[2]}").write_bytes(body)
        self.server.note({"repo": match[1], "path": match[2], "start": 0, "end": len(body), "sent": "here"})
        self.json(200, {})

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def create(self, wanted: dict[str, Any]) -> None:
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        folder = "datasets/" if wanted.get("type") == "dataset" else ""
        name = f"{folder}{wanted['organization']}/{wanted['name']}"
        url = f"http://127.0.0.1:{self.server.server_port}/{name}"
        place = self.server.root / name
        if not token.startswith("hf_"):
            self.refuse(401, "", "Invalid username or password.")
        elif place.exists():
            self.json(409, {"error": "You already created this dataset repo", "url": url})
        else:
            place.mkdir(parents=True)
            behaviour = {"private": wanted.get("visibility") == "private", "tokens": [token]}
            (place / ".hub.json").write_text(json.dumps(behaviour))
            self.json(200, {"url": url, "id": "0"})

    def enter_to_write(self, name: str) -> Repo | None:
        repo = self.enter(name, downloads=False)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if repo and token not in repo.behaviour.get("tokens", ()):
            self.refuse(403, "", "Forbidden: you have no write access to this repository")
            return None
        return repo

    def preupload(self, repo: Repo, body: bytes) -> None:
        """Which files go to LFS, and what is there already, so that it need not be sent again."""
        known = {name: repo.sibling(name) for name in repo.files}
        files: list[dict[str, Any]] = []
        for file in json.loads(body)["files"]:
            lfs = file["path"].endswith((".parquet", ".safetensors"))
            there = known.get(file["path"], {})
            oid = there and (
                hashlib.sha256(repo.files[file["path"]].read_bytes()).hexdigest() if lfs else there["blobId"]
            )
            mode = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            files.append(mode | ({"oid": oid} if oid else {}))
        self.json(200, {"files": files})

    def lfs_batch(self, name: str, body: dict[str, Any]) -> None:
        here = f"http://127.0.0.1:{self.server.server_port}/lfs/{name}"
        objects = [
            {"oid": each["oid"], "size": each["size"], "actions": {"upload": {"href": f"{here}/{each['oid']}"}}}
            for each in body["objects"]
        ]
        self.json(200, {"transfer": "basic", "objects": objects})

    def commit(self, repo: Repo, name: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            path = repo.folder / value.get("path", "")
            path.parent.mkdir(parents=True, exist_ok=True)
            if line["key"] == "file":
                path.write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                path.write_bytes((self.server.root / f"lfs-{value['oid']}").read_bytes())
            elif line["key"] == "deletedFile":
                path.unlink()
        commit = Repo(repo.folder).commit
        self.server.note({"repo": name, "path": "", "start": 0, "end": 0, "commit": commit})
        url = f"http://127.0.0.1:{self.server.server_port}/{name}/commit/{commit}"
        self.json(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def enter(self, name: str, *, downloads: bool) -> Repo | None:
        """The repository, if who asks may see it."""
        folder = self.server.root / name
        repo = Repo(folder)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        known = token in repo.behaviour.get("tokens", ())
        if not folder.is_dir() or (repo.behaviour.get("private") and not known):
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif busy := self.server.busy(name, repo.behaviour.get("busy"), downloads=downloads):
            after = {"Retry-After": str(busy["retry_after"])} if "retry_after" in busy else {}
            self.server.note({"repo": name, "path": "", "start": 0, "end": 0, "status": busy["status"]})
            self.json(busy["status"], {"error": "Too many requests"}, after)
        elif status := repo.behaviour.get("status"):
            self.refuse(status, "", "Out of order")
        elif downloads and repo.behaviour.get("gated") and not known:
            self.refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        else:
            return repo
        return None

    def knows(self, repo: Repo, revision: str) -> bool:
        if revision in ("main", repo.commit):
            return True
        self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return False

    def resolve(self, repo: Repo, name: str, file: str) -> None:
        path = repo.files.get(file)
        if path is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
        elif is_lfs(path):
            sha256 = repo.sibling(file)["lfs"]["sha256"]
            linked = {"X-Repo-Commit": repo.commit, "X-Linked-Size": str(path.stat().st_size), "X-Linked-Etag": sha256}
            elsewhere = f"http://localhost:{self.server.server_port}/cdn/{name}/{sha256}/{file}"
            self.json(302, {}, {"Location": elsewhere, **linked})
        else:
            etag = {"ETag": f'"{repo.sibling(file)["blobId"]}"', "X-Repo-Commit": repo.commit}
            self.send_file(repo, name, file, etag)

    def send_file(self, repo: Repo, name: str, file: str, headers: dict[str, str]) -> None:
        lie = repo.behaviour.get("lies", {}).get(file)
        content = lie.encode() if lie is not None else repo.files[file].read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if repo.behaviour.get("whole"):
            asked = None
        start = int(asked[1]) if asked else 0
        if start >= len(content) > 0:
            self.json(416, {}, {"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(206 if asked else 200)
        ranges = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        for key, value in {**headers, **ranges, "Content-Length": str(len(content) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.send_bytes(repo.folder, name, file, content, start)

    def send_bytes(self, folder: Path, name: str, file: str, content: bytes, start: int) -> None:
        at = start
        try:
            while at < len(content):
                behaviour = Repo(folder).behaviour  # read first: it may change as soon as who asked is gone
                if self.is_gone():
                    return
                limits = [behaviour.get("hold_at"), self.server.drops.get((name, file), behaviour.get("drop_at"))]
                rate = behaviour.get("rate")
                piece = min(PIECE, max(int(rate * DRIP_SECONDS), 1)) if rate else PIECE
                end = min(at + piece, len(content), *(limit for limit in limits if limit is not None and limit >= at))
                if end == at and end == behaviour.get("hold_at"):
                    self.wfile.flush()
                    time.sleep(TICK)
                    continue
                if end == at:
                    self.server.drops[name, file] = -1
                    self.close_connection = True
                    return
                at += self.connection.send(content[at:end])
                if rate:
                    time.sleep(piece / rate)
        except OSError:
            self.close_connection = True
        finally:
            self.server.note({"repo": name, "path": file, "start": start, "end": at})

    def is_gone(self) -> bool:
        """Whether who asked hung up, or was killed: what is sent then reaches nobody."""
        with contextlib.suppress(BlockingIOError):
            self.close_connection |= not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return self.close_connection

    def refuse(self, status: int, code: str, message: str) -> None:
        self.json(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message} if code else {})

    def json(self, status: int, body: dict[str, Any] | list[Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing; what counts is in the log of bytes."""


class Hub(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.root = root
        self.drops: dict[tuple[str, str], int] = {}
        self.turned_away: dict[str, int] = {}
        self._lock = threading.Lock()

    def busy(self, name: str, wanted: dict[str, Any] | None, *, downloads: bool) -> dict[str, Any] | None:
        if not wanted or (wanted.get("files") and not downloads):
            return None
        with self._lock:
            self.turned_away[name] = self.turned_away.get(name, 0) + 1
            return wanted if self.turned_away[name] <= wanted["times"] else None

    def note(self, entry: dict[str, Any]) -> None:
        with self._lock, (self.root / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    hub = Hub(Path(sys.argv[1]))
    print(hub.server_port, flush=True)
    hub.serve_forever()
