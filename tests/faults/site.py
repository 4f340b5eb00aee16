"""A live site on the fake engine, with the means to break it and to see whether anything was lost."""

import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import openai
import psycopg
import redis

from apps.core import guard
from apps.core.owner import is_dead
from batchserver import embedded
from tests.stack.live import REPOSITORY, LiveStack, children_of

WINDOW = 64  # requests in flight
LATENCY = 0.03  # seconds per request: about 2,000 a second
ENDED = ("completed", "failed", "expired", "cancelled")
BACK_SECONDS = 20.0  # a part that was killed is back and at work
PARTS = ("gpu", "gpu-child", "engine-api", "engine-core", "control", "web", "postgres", "valkey", "beat")


@dataclass
class Recovery:
    """What a fault cost."""

    standstill: float
    """The longest time without progress, in seconds."""
    repeated: int
    """Calls that the engine got more than once."""


class Site:
    """A context manager. Prompts are "TAG NUMBER", so that the engine's own count of calls can be read."""

    def __init__(self, var: Path, **env: str) -> None:
        self.var, self.calls = var, var / "calls"
        self.live = LiveStack(
            var,
            env={
                "ENGINE_PYTHON": str(REPOSITORY / "tests/fakes/engine/python"),
                "ENGINE_PASS_ENV": "FAKE_ENGINE_*",
                "FAKE_ENGINE_LATENCY": str(LATENCY),
                "FAKE_ENGINE_CALLS": str(self.calls),
                "ENGINE_CONCURRENCY": str(WINDOW),
                "BATCH_SHARD_LINES": "500",
                "GPU_SLOTS": "cpu",
                **env,
            },
        )

    def __enter__(self) -> Self:
        model = self.var / "models" / "fake"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
        self.live.start()
        script = (
            "from pathlib import Path\n"
            "from apps.accounts.services import create_api_key, create_project\n"
            "from apps.models.services import register_model\n"
            f"register_model(name='m', path=Path({str(model)!r}))\n"
            "print('KEY', create_api_key(project=create_project(name='Faults'), name='key')[1])\n"
        )
        out = self.live.manage("shell", "-c", script)
        keys = [line.split()[1] for line in out.stdout.splitlines() if line.startswith("KEY")]
        assert keys, out.stderr
        self.api = openai.OpenAI(base_url=self.live.base_url, api_key=keys[0], max_retries=8)
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def submit(self, prompts: Iterable[str]) -> str:
        """Send a batch. Returns its id."""
        lines = [
            {
                "custom_id": f"r{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 50},
            }
            for number, prompt in enumerate(prompts)
        ]
        content = "\n".join(map(json.dumps, lines)).encode()
        file = self.api.files.create(file=("in.jsonl", content), purpose="batch")
        batch = self.api.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        return batch.id

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the site's PostgreSQL, behind the server's back. Raises `psycopg.OperationalError` while it is down."""
        with psycopg.connect(embedded.database_url(self.var), autocommit=True, connect_timeout=2) as connection:
            return connection.execute(sql.encode(), parameters).fetchall()

    def state(self, batch: str) -> tuple[str, int]:
        """The batch's status, and how many of its lines have ended."""
        (row,) = self.query(
            "SELECT b.status, coalesce(sum(s.completed + s.failed), 0) FROM batches_batch b"
            " LEFT JOIN batches_shard s ON s.batch_id = b.id WHERE b.uid = %s GROUP BY b.status",
            batch,
        )
        return row[0], int(row[1])

    def wait_for(self, batch: str, statuses: Iterable[str], *, done: int = 0, seconds: float = 60) -> str:
        """Wait until the batch has one of the statuses and so many lines have ended, or is over. Polls quickly."""
        deadline = time.monotonic() + seconds
        with psycopg.connect(embedded.database_url(self.var), autocommit=True) as connection:
            while time.monotonic() < deadline:
                status, ended = self._state_on(connection, batch)
                if status in ENDED or (status in statuses and ended >= done):
                    return status
                time.sleep(0.001)
        raise AssertionError(f"{batch} is {self.state(batch)} after {seconds} s")

    def follow(self, batch: str, seconds: float) -> float:
        """Wait until the batch is over. Returns the longest time in which nothing of it moved."""
        longest, moved = 0.0, time.monotonic()
        seen: tuple[str, int] | None = None
        deadline = moved + seconds
        while time.monotonic() < deadline:
            state: tuple[str, int] | None
            try:
                state = self.state(batch)
            except psycopg.OperationalError:
                state = seen
            now = time.monotonic()
            if state != seen:
                longest, seen, moved = max(longest, now - moved), state, now
            if state and state[0] in ENDED:
                return longest
            time.sleep(0.02)
        raise AssertionError(f"{batch} is still {seen} after {seconds} s:\n" + "\n".join(self.live.output()[-40:]))

    def pid(self, part: str) -> int:
        """A process by the part it plays."""
        if part == "gpu":
            return self.live.pid_of("gpu-cpu")
        if part == "gpu-child":
            return self.slot()[0]
        if part == "engine-api":
            return children_of(self.slot()[1])[0]
        if part == "engine-core":
            return children_of(self.pid("engine-api"))[0]
        return self.live.pid_of(part)

    def slot(self, devices: str = "cpu") -> tuple[int, int]:
        """Who owns the GPU slot: the pids of the worker's pool process and of its engine's guard, once both run."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            rows = self.query("SELECT owner, process_groups FROM core_lease WHERE key LIKE %s", f"gpu:%:{devices}")
            if rows and rows[0][1] and not is_dead(rows[0][0]):
                engine = int(rows[0][1].split()[2])
                if children_of(engine):
                    return int(rows[0][0].split()[0].rpartition(":")[2]), engine
            time.sleep(0.05)
        raise AssertionError(f"nobody owns slot {devices}")

    def warm(self) -> None:
        """Have the engine running: after a fault it starts with the next work."""
        self.follow(self.submit(prompts("warm", 20)), 60)

    def explain_deaths(self) -> None:
        """That engines were killed is no mystery: their model's breaker has no reason to open."""
        self.query("UPDATE models_enginedeath SET explained = true RETURNING 1")

    def kill(self, part: str, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid(part), number)

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(embedded.redis_url(self.var))

    def called(self, tag: str) -> Counter[str]:
        """How often the engines were sent each prompt that begins with the tag."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return Counter(line for line in lines if line.startswith(tag + " "))

    def engines(self) -> set[int]:
        """The sessions in which engines' processes run."""
        marker = str(self.var / "models" / "fake").encode()
        found = set()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):  # noqa: PTH208
            process = guard.read_process(pid)
            try:
                named = marker in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if process and named and not process.zombie:
                found.add(process.session)
        return found

    def _state_on(self, connection: "psycopg.Connection[Any]", batch: str) -> tuple[str, int]:
        row = connection.execute(
            "SELECT b.status, (SELECT coalesce(sum(completed + failed), 0) FROM batches_shard WHERE batch_id = b.id)"
            " FROM batches_batch b WHERE b.uid = %s",
            (batch,),
        ).fetchone()
        assert row
        return row[0], int(row[1])


def prompts(tag: str, count: int) -> list[str]:
    return [f"{tag} {number}" for number in range(count)]


def assert_sound(site: Site, batch: str, *, tag: str, lines: int, faults: int = 1, slots: int = 1) -> int:
    """Nothing was lost, nothing doubled, nothing left behind. Returns the number of repeated calls."""
    ((pk, status, total, error_lines),) = site.query(
        "SELECT id, status, total, jsonb_array_length(coalesce(errors, '[]')) FROM batches_batch WHERE uid = %s", batch
    )
    assert status in ENDED
    assert not error_lines
    ((rows, distinct, failed),) = site.query(
        "SELECT count(*), count(DISTINCT line), count(*) FILTER (WHERE failed) FROM batches_result WHERE batch_id = %s",
        pk,
    )
    assert rows == distinct == total
    assert total == lines or (status == "cancelled" and total == 0)
    ((completed, counted_failed),) = site.query(
        "SELECT coalesce(sum(completed), 0), coalesce(sum(failed), 0) FROM batches_shard WHERE batch_id = %s", pk
    )
    assert (completed, counted_failed) == (rows - failed, failed)
    _assert_files(site, pk, total, rows - failed)
    ((events,),) = site.query(
        "SELECT count(*) FROM events_event WHERE type LIKE 'batch.%%' AND data->>'id' = %s", batch
    )
    assert events == 1
    _assert_nothing_held(site, pk)
    assert len(site.engines()) <= slots
    calls = site.called(tag)
    repeated = calls.total() - len(calls)
    assert repeated <= 1.25 * WINDOW * faults, f"{repeated} calls were repeated"
    return repeated


def _assert_files(site: Site, pk: int, total: int, completed: int) -> None:
    """Every custom_id is in one of the two files, once, and the files are what their rows say."""
    rows = site.query(
        "SELECT f.content, f.bytes, f.sha256, f.id = b.output_file_id FROM batches_batch b"
        " JOIN batches_file f ON f.id IN (b.output_file_id, b.error_file_id) WHERE b.id = %s",
        pk,
    )
    ids: Counter[str] = Counter()
    for content, size, sha256, is_output in rows:
        raw = (site.var / "files" / content).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (size, sha256)
        answers = [json.loads(line) for line in raw.splitlines()]
        ids.update(answer["custom_id"] for answer in answers)
        if is_output:
            assert len(answers) == completed
    assert ids == Counter(f"r{number}" for number in range(total))


def _assert_nothing_held(site: Site, pk: int) -> None:
    deadline = time.monotonic() + 5
    live = (
        "SELECT l.key FROM core_lease l WHERE l.expires_at > clock_timestamp() AND (l.key = 'batch:' || %s::text"
        " OR l.key IN (SELECT 'shard:' || id FROM batches_shard WHERE batch_id = %s))"
    )
    while held := site.query(live, pk, pk):
        assert time.monotonic() < deadline, held
        time.sleep(0.1)


def strike(site: Site, part: str, status: str, seed: int) -> Recovery:
    """Kill a part at a random moment of a batch's status, and see that the batch ends as if nothing had been."""
    chance = random.Random(f"{part} {status} {seed}")
    tag = f"{part}.{status}.{seed}.{time.time_ns()}"
    if part in ("gpu-child", "engine-api", "engine-core"):
        site.warm()
    lines = 6_000 if status == "validating" else 3_000
    batch = site.submit(prompts(tag, lines))
    if status == "cancelling":
        site.wait_for(batch, ["in_progress"], done=chance.randrange(lines // 2))
        site.api.batches.cancel(batch)
    else:
        done = chance.randrange(lines // 2) if status == "in_progress" else 0
        site.wait_for(batch, [status], done=done)
        time.sleep(chance.uniform(0, {"validating": 0.3, "finalizing": 0.03}.get(status, 0.1)))
    site.kill(part)
    standstill = site.follow(batch, BACK_SECONDS + 20)
    site.explain_deaths()
    assert standstill <= BACK_SECONDS
    return Recovery(standstill, assert_sound(site, batch, tag=tag, lines=lines))
