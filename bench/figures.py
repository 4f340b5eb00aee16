"""What a bench measures, how it is shown, and where it is kept."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

SHOWN = 6  # runs in the table; the file has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A median, the goal it is held against, and the runs behind it."""

    name: str
    unit: str
    runs: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    value: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", median(self.runs))

    @property
    def goal(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else "—"

    @property
    def holds(self) -> bool:
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def report(name: str, figures: Sequence[Figure], folder: Path) -> bool:
    """Print the table and write `<folder>/<name>.json`. Whether every goal holds."""
    table = Table("figure", "value", "unit", "goal", "holds", "runs", title=name, title_justify="left")
    for figure in figures:
        holds = "—" if figure.goal == "—" else ("yes" if figure.holds else "[red]NO[/red]")
        runs = " ".join(f"{run:.4g}" for run in figure.runs[:SHOWN]) + (" …" if len(figure.runs) > SHOWN else "")
        table.add_row(figure.name, f"{figure.value:.4g}", figure.unit, figure.goal, holds, runs)
    Console(width=140).print(table)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    rows = [asdict(figure) | {"goal": figure.goal, "holds": figure.holds} for figure in figures]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(
        json.dumps({"machine": machine, "figures": rows}, indent=2, ensure_ascii=False)
    )
    return all(figure.holds for figure in figures)
