"""Rows of which nothing is learned: counted by reason, the first of them kept with their lines, and all of them written
to `LEFT_OUT` in the job's folder. Django-free.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from apps.datasets.reasons import Reasons
from apps.training.spec import LEFT_OUT, FileKind

SHOWN = 100  # that are kept here with their lines


@dataclass(slots=True)
class LeftOut:
    """Of one file. Memory holds the first `SHOWN`, and the reasons."""

    kind: FileKind = "training"
    listed: IO[bytes] | None = None
    """Where all of them go."""
    first: list[tuple[int, str]] = field(default_factory=list)
    """Line numbers of the user's file, each with why."""
    count: int = 0
    reasons: Reasons = field(default_factory=Reasons)

    def add(self, line: int, why: str) -> None:
        self.count += 1
        self.reasons.add(why, line)
        if len(self.first) < SHOWN:
            self.first.append((line, why))
        if self.listed:
            self.listed.write(msgspec.json.encode({"file": self.kind, "line": line, "reason": why}) + b"\n")


@contextmanager
def listing(folder: Path) -> Iterator[IO[bytes]]:
    """The file of all that are left out, which has its name once all rows were read; none where there are none."""
    draft = folder / f"{LEFT_OUT}.draft"
    try:
        with draft.open("wb") as listed:
            yield listed
        if draft.stat().st_size:
            draft.replace(folder / LEFT_OUT)
        else:
            (folder / LEFT_OUT).unlink(missing_ok=True)
    finally:
        draft.unlink(missing_ok=True)
