"""A hub that runs (tests/fakes/hub), with repositories that a test puts there."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.fakes.hostile.folders import write_files

PROGRAM = Path(__file__).parents[1] / "fakes" / "hub" / "hub.py"


class RunningHub:
    def __init__(self, root: Path, port: int) -> None:
        self.root, self.endpoint = root, f"http://127.0.0.1:{port}"

    def add(self, name: str, files: Mapping[str, Any], **behaviour: Any) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True)
        write_files(folder, files)
        self.behave(name, **behaviour)
        return folder

    def behave(self, name: str, **behaviour: Any) -> None:
        draft = self.root / name.replace("/", "--")
        draft.write_text(json.dumps(behaviour))
        draft.replace(self.root / name / ".hub.json")

    def sent(self, name: str) -> dict[str, list[tuple[int, int]]]:
        """For each file the ranges of bytes that were sent, in order of their starts."""
        log = self.root / "log.jsonl"
        lines = map(json.loads, log.read_text().splitlines() if log.exists() else ())
        found: dict[str, list[tuple[int, int]]] = {}
        for line in lines:
            if line["repo"] == name:
                found.setdefault(line["path"], []).append((line["start"], line["end"]))
        return {path: sorted(ranges) for path, ranges in found.items()}

    def sent_twice(self, name: str, besides: str) -> int:
        """Bytes that were sent more than once, of any other file."""
        others = [ranges for path, ranges in self.sent(name).items() if path != besides]
        return sum(max(0, before[1] - after[0]) for ranges in others for before, after in pairwise(ranges))


@contextmanager
def running_hub(root: Path) -> Iterator[RunningHub]:
    root.mkdir()
    process = subprocess.Popen([sys.executable, PROGRAM, root], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield RunningHub(root, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
