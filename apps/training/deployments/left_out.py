"""Rows that a deployment's check leaves out: too long for it, or for the engine. Pure: `parity` in, `parity` out."""

from collections.abc import Mapping
from typing import Any

LISTED = 100  # rows that are kept with their lines
NAMED = 12  # lines in a sentence
REASON_CHARACTERS = 300
OF_PROMPTS = ("prompts", "references", "sources", "content", "origins")
"""Lists of `parity` with an entry for each prompt."""
OF_MODELS = ("base", "adapter", "merged")
"""Lists with one for each prompt that was answered; those in "measured", too."""

Origin = dict[str, Any]
"""{"file": its id, "line": counts from 1}: where a row stands."""


def leave_out(parity: Mapping[str, Any], origin: Origin | None, reason: str) -> dict[str, Any]:
    """What changes: `left_out` has the first `LISTED`, `left_out_count` counts all."""
    listed, count = parity.get("left_out", []), int(parity.get("left_out_count", 0))
    row = {"file": None, "line": None, **(origin or {}), "reason": reason[:REASON_CHARACTERS]}
    return {"left_out": [*listed, row][:LISTED], "left_out_count": count + 1}


def without(parity: Mapping[str, Any], at: int, reason: str) -> dict[str, Any]:
    """The whole of it without a prompt, and what was answered to that."""
    origins = parity.get("origins", ())
    measured = parity.get("measured", {})
    return {
        **parity,
        **{name: _without(parity[name], at) for name in (*OF_PROMPTS, *OF_MODELS) if name in parity},
        "measured": {name: _without(figures, at) for name, figures in measured.items()},
        **leave_out(parity, origins[at] if at < len(origins) else None, reason),
    }


def sentence(parity: Mapping[str, Any]) -> str:
    """Which were left out, and why the first; empty: none was."""
    count, rows = int(parity.get("left_out_count", 0)), parity.get("left_out", [])
    if not count:
        return ""
    lines = [f"{row['line']:,}" for row in rows[:NAMED] if row["line"]]
    more = f" and {count - len(lines):,} more" if count > len(lines) else ""
    where = f" (line{'s' * (len(lines) > 1)} {', '.join(lines)}{more} of {rows[0]['file']})" if lines else ""
    what = f"{count:,} row{'s were' if count > 1 else ' was'} left out of the check{where}"
    return f"{what}: {rows[0]['reason'].rstrip('.')}."


def _without(entries: list[Any], at: int) -> list[Any]:
    return [*entries[:at], *entries[at + 1 :]]
