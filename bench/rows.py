"""A hundred thousand chat rows from a file to answers, to an export, to a check as a training file.

Once of many kinds, one in a hundred of them bad for one of thirty reasons: every bad row has to be named. And once
plain ones, which earlier versions take too: to compare, `plain()` runs with these alone.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.figures import Figure
from bench.site import Site, peak_memory
from tests.datasets.bad_rows import good_row, lines

ROWS, EVERY = 100_000, 100
GOALS = {"import": 40, "run": 60, "export": 20, "training file": 15}  # seconds
MEMORY_MIB = 128
LISTED = """
import json
from apps.datasets.models import Import
job = Import.objects.get(dataset__name={dataset!r})
with job.errors_file.content.open("rb") as file:
    print("LINES", json.dumps([json.loads(line)["line"] for line in file]))
"""
CHECKED = """
import json, resource, time
from apps.training.files.reading import Limits, Reader
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with open({path!r}, "rb") as file:
    before, started = peak(), time.monotonic()
    reader = Reader(file, "sft", Limits(rows=1_000_000, line_bytes=8 * 1024**2))
    rows = sum(1 for row in reader.rows())
    seconds = time.monotonic() - started
    print("CHECKED", json.dumps([rows, reader.bad, seconds, peak() - before]))
"""

Measured = dict[str, list[float]]
"""Seconds of each stage, and, under "memory of …", by how many MiB it grew."""


def run() -> list[Figure]:
    return [*_figures("rows of many kinds, 1 % bad", _measured(good_row, every=EVERY)), *plain()]


def plain() -> list[Figure]:
    """Rows that any version takes, with a question and an answer, each a text."""
    return _figures("plain rows", _measured(_plain_row, every=0))


def _plain_row(number: int) -> dict[str, Any]:
    question = {"role": "user", "content": f"What is {number} times {number}? " + "Think of every digit. " * 10}
    return {"messages": [question, {"role": "assistant", "content": f"It is {number * number}. " * 8}]}


def _measured(good: Callable[[int], dict[str, Any]], *, every: int) -> Measured:
    """`every`: which rows are bad; 0 for none."""
    found: Measured = {}
    bad = ROWS // every if every else 0
    with Site.with_fake_engine() as site, TemporaryDirectory() as name:
        path, out = Path(name, "rows.jsonl"), Path(name, "chat.jsonl")
        with path.open("wb") as file:
            file.writelines(line for line, _ in lines(ROWS, every=every or ROWS + 1, good=good))
        worker = site.stack.pid_of("control")
        _stage(site, worker, found, "import", "import_dataset", str(path), "--dataset", "rows", "--skip-bad", "--wait")
        if bad:
            _look(site, list(range(every, ROWS + 1, every)))
        _stage(site, worker, found, "run", "run_dataset", "rows", "--model", "fake", "--wait")
        chosen = ("--format", "chat", "--answers", "reference", "--output", str(out))
        _stage(site, worker, found, "export", "export_dataset", "rows", *chosen)
        rows, refused, seconds, grown = _answer(site, CHECKED.format(path=str(out)), "CHECKED")
    if (rows, refused) != (ROWS - bad, 0):
        raise RuntimeError(f"The training file has {rows} good rows and {refused} bad ones.")
    return found | {"training file": [seconds], "memory of training file": [grown]}


def _stage(site: Site, worker: int, found: Measured, name: str, *command: str) -> None:
    """A command, its own start included. Its memory is the control worker's."""
    with peak_memory(worker) as grown:
        started = time.monotonic()
        done = site.stack.manage(*command, timeout=900)
        found[name] = [time.monotonic() - started]
    found[f"memory of {name}"] = grown
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def _look(site: Site, bad: list[int]) -> None:
    """That exactly these lines are named."""
    listed = _answer(site, LISTED.format(dataset="rows"), "LINES")
    if listed != bad:
        raise RuntimeError(f"{len(bad)} rows are bad, and {len(listed)} are named: {listed[:10]} …")


def _answer(site: Site, script: str, word: str) -> Any:
    """The JSON that a script prints behind this word."""
    done = site.stack.manage("shell", "-c", script, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(next(line.removeprefix(word) for line in done.stdout.splitlines() if line.startswith(word)))


def _figures(what: str, found: Measured) -> list[Figure]:
    return [
        figure
        for name, goal in GOALS.items()
        for figure in (
            Figure(name=f"{name}: {ROWS:,} {what}", unit="s", runs=found[name], at_most=goal),
            Figure(name=f"{name}: memory", unit="MiB", runs=found[f"memory of {name}"], at_most=MEMORY_MIB),
        )
    ]
