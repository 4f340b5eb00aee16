"""How fast lines become durable results, when the engine costs nothing."""

from pathlib import Path
from tempfile import TemporaryDirectory

from bench import client
from bench.figures import Figure
from bench.site import Site, write_batch

RUNS = 5
LINES = 30_000
WINDOW = 256


def run() -> list[Figure]:
    ours: list[float] = []
    bare: list[float] = []
    with Site.with_fake_engine(ENGINE_CONCURRENCY=str(WINDOW)) as site, TemporaryDirectory() as folder:
        path = write_batch(Path(folder) / "batch.jsonl", model=site.model, lines=LINES, content="What is {line}?")
        site.run_batch(write_batch(Path(folder) / "warm.jsonl", model=site.model, lines=50, content="{line}"))
        for _ in range(RUNS):
            uid = site.create(site.upload(path))
            site.wait(uid, every=0.5)
            ours.append(LINES / site.seconds(uid, "in_progress_at", "finalizing_at"))
            bare.append(LINES / client.run(site.engine_socket, path, window=WINDOW))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return [
        Figure(name=f"durable results, {LINES:,} lines", unit="1/s", runs=ours, at_least=3_000),
        Figure(name="bare aiohttp client, nothing kept", unit="1/s", runs=bare),
        Figure(name="ratio", unit="", runs=ratios),
    ]
