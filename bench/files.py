"""A batch file of OpenAI's largest size, in and out: 50,000 lines, 200 MB."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure
from bench.site import Site, peak_memory, write_batch

RUNS = 3
LINES = 50_000
CONTENT = "{line} " + "All work and no play makes a dull dataset. " * 87  # 200 MB in all


def run() -> list[Figure]:
    validate: list[float] = []
    web: list[float] = []
    worker: list[float] = []
    first_byte: list[float] = []
    last_byte: list[float] = []
    reading: list[float] = []
    with Site.with_fake_engine() as site, TemporaryDirectory() as folder:
        path = write_batch(Path(folder) / "large.jsonl", model=site.model, lines=LINES, content=CONTENT)
        size = path.stat().st_size / 1e6
        site.run_batch(write_batch(Path(folder) / "warm.jsonl", model=site.model, lines=50, content="{line}"))
        web_pid, worker_pid = site.stack.pid_of("web"), site.stack.pid_of("control")
        for _ in range(RUNS):
            with peak_memory(web_pid) as grown_web, peak_memory(worker_pid) as grown_worker:
                file_id = site.upload(path)
                started = time.monotonic()
                batch_id = site.create(file_id)
                site.wait(batch_id, ("in_progress", "finalizing"), every=0.02)
                validate.append(time.monotonic() - started)
            web += grown_web
            worker += grown_worker
            batch = site.wait(batch_id, every=0.5)
            with peak_memory(web_pid) as grown:
                first, last, _ = site.download(batch["output_file_id"])
            first_byte.append(first * 1000)
            last_byte.append(last)
            reading += grown
    what = f"{LINES:,} lines, {size:.0f} MB"
    return [
        Figure(name=f"validate {what}", unit="s", runs=validate, at_most=5),
        Figure(name="memory of web, upload", unit="MiB", runs=web, at_most=128),
        Figure(name="memory of control worker", unit="MiB", runs=worker, at_most=128),
        Figure(name="output, first byte", unit="ms", runs=first_byte, at_most=300),
        Figure(name="output, last byte", unit="s", runs=last_byte, at_most=10),
        Figure(name="memory of web, download", unit="MiB", runs=reading, at_most=64),
    ]
