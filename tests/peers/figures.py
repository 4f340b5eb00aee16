"""The table of results in docs/peers.md: a row for each client, of its last run with the real engine."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.peers.report import Outcome

START, END = "<!-- results -->\n", "<!-- end of results -->\n"
HEAD = "| client | version | passed | what is not, and why |\n|---|---|---|---|\n"
ROW = re.compile(r"\| `(?P<name>[^`]+)` \|.*\n")


def record(outcomes: Iterable[Outcome], page: Path, order: Iterable[str]) -> None:
    """Put the outcomes' rows into the page's table; those of other clients stay. `order` names all clients."""
    text = page.read_text()
    before, rest = text.split(START)
    old, after = rest.split(END)
    rows = {found["name"]: found[0] for found in ROW.finditer(old)}
    rows |= {outcome.name: row(outcome) for outcome in outcomes}
    table = "".join(rows[name] for name in order if name in rows)
    page.write_text(f"{before}{START}{HEAD}{table}{END}{after}")


def row(outcome: Outcome) -> str:
    reasons = [f"{check}: {outcome.exceptions.get(check, 'unexplained')}" for check in sorted(outcome.failed)]
    reasons += [f"{count} left out: {reason}" for reason, count in sorted(outcome.left_out.items())]
    said = "<br>".join(reason.replace("|", "\\|") for reason in reasons)
    return f"| `{outcome.name}` | {outcome.version} | {len(outcome.passed)} of {outcome.total} | {said} |\n"
