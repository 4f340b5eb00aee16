"""What the peers' checks come to: a table, and whether it is good enough."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

GOAL = 0.95  # of all checks have to pass
WIDTH = 110  # of a failure's line


@dataclass
class Outcome:
    """A peer's checks, as its driver told them."""

    name: str
    version: str = "?"
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Names of checks, and what happened."""
    exceptions: dict[str, str] = field(default_factory=dict)
    """Names of checks that may fail, and why."""

    def hear(self, line: str) -> None:
        """Take over what a line of a driver's output says; other output is ignored."""
        _, start, rest = line.partition('{"peer"')  # a test runner may have written its dots before
        if not start:
            return
        told: dict[str, Any] = json.loads(start + rest)
        if told["peer"] == "version":
            self.version = told["version"]
        elif told["peer"] == "left out":
            self.left_out[told["reason"]] += 1
        elif told["ok"]:
            self.passed.append(told["check"])
        else:
            self.failed[told["check"]] = told["detail"]

    left_out: Counter[str] = field(default_factory=Counter)
    """Reasons for which checks were not run, and how many."""

    @property
    def total(self) -> int:
        return len(self.passed) + len(self.failed)

    @property
    def unnamed(self) -> dict[str, str]:
        """Failures that no exception gives a reason for."""
        return {check: detail for check, detail in self.failed.items() if check not in self.exceptions}

    @property
    def obsolete(self) -> list[str]:
        """Exceptions that are none any more."""
        return [check for check in self.exceptions if check in self.passed]


def good_enough(outcomes: Iterable[Outcome]) -> bool:
    """At least GOAL of all checks pass, each client has some, and every failure has a reason."""
    known = list(outcomes)
    complete = all(outcome.total and not outcome.unnamed for outcome in known)
    passed, total = (sum(counts) for counts in zip(*((len(o.passed), o.total) for o in known), strict=True))
    return complete and passed >= GOAL * total


def table(outcomes: Iterable[Outcome]) -> str:
    """A row for each peer, and below it its failures: named ones with the reason, others with what happened."""
    rows = [f"{'client':<16} {'version':<12} {'passed':>9}"]
    for outcome in outcomes:
        rows.append(f"{outcome.name:<16} {outcome.version:<12} {len(outcome.passed):>4}/{outcome.total:<4}")
        rows += [
            f"    exception: {check}: {outcome.exceptions[check]}"
            for check in sorted(outcome.failed)
            if check in outcome.exceptions
        ]
        rows += [f"    FAILED: {check}: {_one_line(detail)}" for check, detail in outcome.unnamed.items()]
        rows += [f"    left out: {count}, {reason}" for reason, count in outcome.left_out.items()]
        rows += [f"    passes by now, no exception is needed: {check}" for check in outcome.obsolete]
    return "\n".join(rows)


def _one_line(detail: str) -> str:
    return " ".join(detail.split())[:WIDTH]
