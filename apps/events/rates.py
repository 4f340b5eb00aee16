"""Speed and remaining time, from the counters of one object's snapshots."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

WINDOW = 10.0  # seconds


class _Point(NamedTuple):
    at: float  # Unix time
    tokens: int
    lines: int


class Rates:
    """Rolls over the last WINDOW seconds of snapshots. The first and the final one show the average of all the time.

    Reads `total completed failed output_tokens in_progress_at ended_at paused final`;
    what counts no tokens has no speed.
    """

    def __init__(self) -> None:
        self._seen: deque[_Point] = deque()

    def of(self, snapshot: Mapping[str, Any], now: float | None = None) -> dict[str, float | int | None]:
        """`tokens_per_second`, and `eta_seconds`: null where nothing says when it will end."""
        if "output_tokens" not in snapshot:
            return {}
        point = _Point(
            time.time() if now is None else now,
            snapshot["output_tokens"],
            snapshot["completed"] + snapshot["failed"],
        )
        self._seen.append(point)
        while len(self._seen) > 2 and self._seen[1].at <= point.at - WINDOW:
            self._seen.popleft()
        average = self._average(snapshot, point)
        recent = _speed(self._seen[0], point)
        tokens, lines = average if snapshot["final"] or recent is None else recent
        eta = None if snapshot["paused"] else _eta(snapshot["total"] - point.lines, lines or average[1])
        return {"tokens_per_second": round(tokens, 1), "eta_seconds": 0 if snapshot["final"] else eta}

    @staticmethod
    def _average(snapshot: Mapping[str, Any], point: _Point) -> tuple[float, float]:
        started = snapshot["in_progress_at"]
        if started is None:
            return 0.0, 0.0
        return _speed(_Point(started, 0, 0), point._replace(at=snapshot["ended_at"] or point.at)) or (0.0, 0.0)


def _speed(first: _Point, last: _Point) -> tuple[float, float] | None:
    """Tokens and lines a second; None for a time too short to say."""
    seconds = last.at - first.at
    if seconds < 1:
        return None
    return (last.tokens - first.tokens) / seconds, (last.lines - first.lines) / seconds


def _eta(lines: int, lines_per_second: float) -> int | None:
    return round(lines / lines_per_second) if lines_per_second > 0 else None
