"""The whole site, run for a bench as an operator would run it, and driven over HTTP."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import aiohttp
import psutil

from batchserver.embedded import run_dir
from tests.stack.live import LiveStack

FAKE_ENGINE = Path(__file__).resolve().parent.parent / "tests/fakes/engine/python"
KEY = """
from pathlib import Path
from apps.accounts.services import create_api_key, create_project
from apps.models.services import register_model
register_model(name={model!r}, path=Path({path!r}))
print("KEY", create_api_key(project=create_project(name="Bench"), name="bench")[1])
"""
SPAN = """
from apps.batches.models import Batch
batch = Batch.objects.get(uid={uid!r})
print("SECONDS", (batch.{until} - batch.{since}).total_seconds())
"""
OPEN = ("validating", "in_progress", "finalizing", "cancelling")


class Site:
    """A context manager: a fresh site with one model and one API key."""

    def __init__(self, *, model: str, path: Path, **settings: str) -> None:
        self.model = model
        self._path = path
        self.var = Path(mkdtemp(prefix="bench-"))
        self.stack = LiveStack(self.var, env=settings)

    @classmethod
    def with_fake_engine(cls, **settings: str) -> Self:
        folder = Path(mkdtemp(prefix="bench-model-"))
        (folder / "config.json").write_text("{}")
        return cls(model="fake", path=folder, ENGINE_PYTHON=str(FAKE_ENGINE), **settings)

    def __enter__(self) -> Self:
        self.stack.start()
        answer = self.stack.manage("shell", "-c", KEY.format(model=self.model, path=str(self._path)))
        self.key = next(line.split()[1] for line in answer.stdout.splitlines() if line.startswith("KEY"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop()
        shutil.rmtree(self.var, ignore_errors=True)

    @property
    def engine_socket(self) -> Path:
        """Where the engine of the only slot listens, once it runs."""
        return next(run_dir(self.var).glob("slot-*/**/engine.sock"))

    def upload(self, path: Path) -> str:
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        with path.open("rb") as file:
            form.add_field("file", file, filename=path.name)
            return str(self.call("POST", "/files", data=form)["id"])

    def create(self, file_id: str) -> str:
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return str(self.call("POST", "/batches", json=body)["id"])

    def wait(self, batch_id: str, statuses: tuple[str, ...] = (), every: float = 0.05) -> dict[str, Any]:
        """The batch once it is in one of the statuses, or has ended."""
        while True:
            batch = self.call("GET", f"/batches/{batch_id}")
            if batch["status"] in statuses or batch["status"] not in OPEN:
                return batch
            time.sleep(every)

    def run_batch(self, path: Path) -> float:
        """Seconds from creating the batch to its end. It is asked for seldom: asking takes the engine's cores."""
        batch = self.wait(self.create(self.upload(path)), every=1)
        if batch["status"] != "completed" or batch["request_counts"]["failed"]:
            raise RuntimeError(f"The batch did not complete: {batch}")
        return self.seconds(batch["id"], "created_at", "completed_at")

    def seconds(self, batch_id: str, since: str, until: str) -> float:
        """Between two of a batch's timestamps, to the microsecond."""
        answer = self.stack.manage("shell", "-c", SPAN.format(uid=batch_id, since=since, until=until))
        return float(next(line.split()[1] for line in answer.stdout.splitlines() if line.startswith("SECONDS")))

    def download(self, file_id: str) -> tuple[float, float, int]:
        """Seconds to the first byte, seconds to the last, and the number of bytes."""
        return asyncio.run(self._download(file_id))

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return asyncio.run(self._call(method, path, options))

    async def _call(self, method: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.request(method, self.stack.base_url + path, **options) as response,
        ):
            answer: dict[str, Any] = await response.json()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer}")
        return answer

    async def _download(self, file_id: str) -> tuple[float, float, int]:
        started, first, size = time.monotonic(), 0.0, 0
        async with (
            aiohttp.ClientSession(headers=self._headers, read_bufsize=2**20) as session,
            session.get(f"{self.stack.base_url}/files/{file_id}/content") as response,
        ):
            async for chunk in response.content.iter_any():
                first = first or time.monotonic() - started
                size += len(chunk)
        return first, time.monotonic() - started, size

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def write_batch(path: Path, *, model: str, lines: int, content: str, max_tokens: int | None = None) -> Path:
    """A batch file; `content` gets the line's number as {line}."""
    with path.open("w") as file:
        for line in range(lines):
            body: dict[str, Any] = {
                "model": model,
                "messages": [{"role": "user", "content": content.format(line=line)}],
            }
            if max_tokens:
                body |= {"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
            request = {"custom_id": f"line-{line}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(request) + "\n")
    return path


@contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
    """Adds, at the end, by how many MiB a process and its children grew at most, sampled every 20 ms."""
    growth: list[float] = []
    process = psutil.Process(pid)
    base = peak = _resident(process)
    stop = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            peak = max(peak, _resident(process))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield growth
    finally:
        stop.set()
        thread.join()
        growth.append((peak - base) / 2**20)


def _resident(process: psutil.Process) -> int:
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
