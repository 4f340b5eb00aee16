"""What an interactive request costs on top of the bare engine: the same requests to both, by turns."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings

from bench.figures import Figure
from bench.site import Site, write_batch

ROUNDS = 5
PATH = "/v1/chat/completions"


def run() -> list[Figure]:
    return [*_overhead("engine costs nothing", 0.0, 4000), *_overhead("engine takes 20 ms", 0.02, 3000)]


def _overhead(name: str, latency: float, requests: int) -> list[Figure]:
    added: dict[str, list[float]] = {}
    with Site.with_fake_engine(ENGINE_PASS_ENV="FAKE_ENGINE_*", FAKE_ENGINE_LATENCY=str(latency)) as site, TemporaryDirectory() as folder:
        site.run_batch(write_batch(Path(folder) / "warm.jsonl", model=site.model, lines=50, content="{line}"))
        for concurrency in (1, 16):
            order = {"model": site.model, "requests": requests if concurrency > 1 else requests // 10, "concurrency": concurrency, "stream": False}
            for _ in range(ROUNDS):
                bare = ask(order | {"url": f"http://engine{PATH}", "socket": str(site.engine_socket)})
                ours = ask(order | {"url": site.stack.base_url.removesuffix("/v1") + PATH, "key": site.key})
                for share in (0.5, 0.99):
                    added.setdefault(f"{name}, {concurrency} {share} bare", []).append(at(bare, share) * 1000)
                    added.setdefault(f"{name}, {concurrency} {share} ours", []).append(at(ours, share) * 1000)
    return [Figure(name=key, unit="ms", runs=runs) for key, runs in added.items()]


def ask(order: dict[str, Any]) -> list[float]:
    done = subprocess.run([sys.executable, "-m", "bench.asker", json.dumps(order)], cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return list(json.loads(done.stdout))


def at(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
