"""What an interactive request costs on top of the bare engine: the same requests to both, by turns.

The load generator, the web process and the fake engine are a process each. On two cores they share them: an engine that
costs nothing keeps the web process busy all the time, so that its figure is mostly a queue's.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings

from bench.figures import Figure
from bench.site import Site, write_batch

ROUNDS = 5
CONCURRENCY = 16
REQUESTS = 3_000  # of a round
PATH = "/v1/chat/completions"
LATENCY = 0.02  # seconds that a small answer of a fast model takes


def run() -> list[Figure]:
    return [*_added("engine of 20 ms", LATENCY, goals=True), *_added("engine that costs nothing", 0, goals=False)]


def _added(what: str, latency: float, *, goals: bool) -> list[Figure]:
    engine = {"ENGINE_PASS_ENV": "FAKE_ENGINE_*", "FAKE_ENGINE_LATENCY": str(latency)}
    with Site.with_fake_engine(**engine) as site, TemporaryDirectory() as folder:
        site.run_batch(write_batch(Path(folder) / "warm.jsonl", model=site.model, lines=50, content="{line}"))
        plain = [_both(site, stream=False) for _ in range(ROUNDS)]
        streams = [_both(site, stream=True) for _ in range(ROUNDS)]
    return [
        _figure(f"added, p50, {what}", plain, 0.5, 2 if goals else None),
        _figure(f"added, p99, {what}", plain, 0.99, 15 if goals else None),
        _figure(f"added to the first token, p50, {what}", streams, 0.5, 5 if goals else None),
        Figure(name=f"bare, p50, {what}", unit="ms", runs=[_at(bare, 0.5) for bare, _ in plain]),
        Figure(name=f"requests, {what}", unit="1/s", runs=[_rate(ours) for _, ours in plain]),
    ]


def _both(site: Site, *, stream: bool) -> tuple[list[float], list[float]]:
    """Milliseconds of each request: to the bare engine, and to the site."""
    order = {"model": site.model, "requests": REQUESTS, "concurrency": CONCURRENCY, "stream": stream}
    bare = _ask(order | {"url": f"http://engine{PATH}", "socket": str(site.engine_socket)})
    ours = _ask(order | {"url": site.stack.base_url.removesuffix("/v1") + PATH, "key": site.key})
    return bare, ours


def _ask(order: dict[str, Any]) -> list[float]:
    command = [sys.executable, "-m", "bench.asker", json.dumps(order)]
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return [microseconds / 1000 for microseconds in json.loads(done.stdout)]


def _figure(name: str, rounds: list[tuple[list[float], list[float]]], share: float, at_most: float | None) -> Figure:
    added = [_at(ours, share) - _at(bare, share) for bare, ours in rounds]
    return Figure(name=name, unit="ms", runs=added, at_most=at_most)


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _rate(values: list[float]) -> float:
    """Of a closed loop: those in flight by the seconds that each takes."""
    return CONCURRENCY * 1000 * len(values) / sum(values)
