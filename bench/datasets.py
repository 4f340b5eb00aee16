"""A hundred thousand rows into a dataset, through a model of no cost and out again, by the command line.

The command's own start is part of the seconds.
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure
from bench.site import Site, peak_memory

RUNS = 3
ROWS = 100_000
FORMATS = ("chat", "huggingface")
GOALS = {"import": 30, "run": 60}  # seconds; of exports 20
PROMPT = "Row {number}: " + "what is it that everybody knows and nobody says? " * 8  # 78 MB in all, with the answers
ANSWER = "Row {number}: " + "that the emperor has no clothes. " * 10


def run() -> list[Figure]:
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    with Site.with_fake_engine() as site, TemporaryDirectory() as name:
        folder = Path(name)
        _import(site, _write(folder / "warm.jsonl", 100), "warm")
        rows = _write(folder / "rows.jsonl", ROWS)
        worker = site.stack.pid_of("control")
        for number in range(RUNS):
            dataset = f"big-{number}"
            with peak_memory(worker) as grown:
                seconds.setdefault("import", []).append(_import(site, rows, dataset))
            memory.setdefault("import", []).extend(grown)
            with peak_memory(worker) as grown:
                seconds.setdefault("run", []).append(_timed(site, "run_dataset", dataset, "--model", "fake", "--wait"))
            memory.setdefault("run", []).extend(grown)
            for chosen in FORMATS:
                command = ("export_dataset", dataset, "--format", chosen, "--output", str(folder / chosen))
                with peak_memory(worker) as grown:
                    seconds.setdefault(f"export, {chosen}", []).append(_timed(site, *command))
                memory.setdefault(f"export, {chosen}", []).extend(grown)
        size = rows.stat().st_size / 1e6
    what = f"{ROWS:,} rows, {size:.0f} MB"
    return [
        figure
        for name, runs in seconds.items()
        for figure in (
            Figure(name=f"{name}: {what}", unit="s", runs=runs, at_most=GOALS.get(name, 20)),
            Figure(name=f"{name}: memory of control worker", unit="MiB", runs=memory[name], at_most=128),
        )
    ]


def _write(path: Path, rows: int) -> Path:
    with path.open("w") as file:
        for number in range(rows):
            row = {"prompt": PROMPT.format(number=number), "completion": ANSWER.format(number=number)}
            file.write(json.dumps(row) + "\n")
    return path


def _import(site: Site, path: Path, dataset: str) -> float:
    return _timed(site, "import_dataset", str(path), "--dataset", dataset, "--wait")


def _timed(site: Site, *command: str) -> float:
    started = time.monotonic()
    done = site.stack.manage(*command, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return time.monotonic() - started
