"""Why rows were left out, gathered by kind: a file with a thousand bad rows has thirty reasons, not a thousand."""

import re
from typing import Any

MAX_KINDS = 100
"""That are told apart; what comes later counts as `OTHER`."""
OTHER = "Other reasons"

_NUMBERS = re.compile(r"\d[\d,.]*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Reasons:
    """Counts messages that differ in numbers only as one; where kinds become too many, those that differ in what they
    quote too. Memory holds `MAX_KINDS` of them.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, Any]] = {}
        self._exact = True

    def add(self, message: str, line: int | None) -> None:
        kind = self._kind(message)
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._coarsen()
            kind = self._kind(message)
            if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
                kind = OTHER
        known = self._kinds.setdefault(kind, {"message": message if kind != OTHER else OTHER, "rows": 0, "line": line})
        known["rows"] += 1

    def listed(self) -> list[dict[str, Any]]:
        """The most frequent first: the first message of each kind, its rows, and the line of the first."""
        return sorted(self._kinds.values(), key=lambda kind: (-kind["rows"], kind["line"] or 0))

    def __len__(self) -> int:
        return len(self._kinds)

    def _kind(self, message: str) -> str:
        kind = _NUMBERS.sub("0", message)
        return kind if self._exact else _QUOTED.sub("''", kind)

    def _coarsen(self) -> None:
        if not self._exact:
            return
        self._exact, fine = False, self._kinds
        self._kinds = {}
        for kind in fine.values():
            known = self._kinds.setdefault(self._kind(kind["message"]), {**kind, "rows": 0})
            known["rows"] += kind["rows"]
