"""Benchmarks on a terminal: a bar of levels, and tables of figures."""

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError
from rich.progress import MofNCompleteColumn
from rich.table import Table

from apps.core.console import show
from apps.events.console import follow
from apps.models.benchmarks.services import MEASURES, TOPIC, compare, label
from apps.models.models import Benchmark

COLUMNS = {  # of a level: which of its figures, which percentile, how many decimal places
    "in flight": ("concurrency", "", 0),
    "requests": ("requests", "", 0),
    "errors": ("errors", "", 0),
    "requests/s": ("requests_per_second", "", 2),
    "tokens/s": ("output_tokens_per_second", "", 1),
    "first token ms, p50": ("first_token", "p50", 1),
    "p95": ("first_token", "p95", 1),
    "p99": ("first_token", "p99", 1),
    "between tokens ms, p50": ("inter_token", "p50", 1),
    " p95": ("inter_token", "p95", 1),
    " p99": ("inter_token", "p99", 1),
    "answer ms, p95": ("latency", "p95", 0),
}
DROP = (" p95", " p99", "p95", "p99", "requests", "answer ms, p95")  # columns of levels, on a narrow terminal
COMPARED = ("output_tokens_per_second", "requests_per_second", "first_token", "inter_token")


def wait_for(benchmark: Benchmark) -> None:
    """Show a bar until it has ended. Raises `CommandError` unless it was measured to the end; Ctrl-C lets it go on."""
    follow(TOPIC, benchmark.uid, MofNCompleteColumn())
    benchmark.refresh_from_db()
    show(levels_table(benchmark), drop=DROP)
    if benchmark.status != Benchmark.Status.COMPLETED:
        raise CommandError(f"{benchmark.uid} is {benchmark.status}. {benchmark.message}")


def levels_table(benchmark: Benchmark) -> Table:
    """A row for each level."""
    table = Table(*COLUMNS, title=label(benchmark), title_justify="left")
    for level in benchmark.levels:
        table.add_row(*(_cell(level, *column) for column in COLUMNS.values()))
    return table


def comparison_table(benchmarks: Sequence[Benchmark]) -> Table:
    """Side by side: a row for each number in flight, p95 of times."""
    series = [line for measure in COMPARED for line in compare(benchmarks, measure)]
    names = [f"{measure.replace('_', ' ')}, {MEASURES[measure]}" for measure in COMPARED for _ in benchmarks]
    table = Table("in flight", title="Side by side; times are p95", title_justify="left")
    for name, line in zip(names, series, strict=True):
        table.add_column(f"{name}\n{line['label']}")
    figures = [{point["x"]: point["y"] for point in line["points"]} for line in series]
    for concurrency in sorted({x for line in figures for x in line}):
        cells = [f"{line[concurrency]:,.1f}" if concurrency in line else "-" for line in figures]
        table.add_row(f"{concurrency:,.0f}", *cells)
    return table


def _cell(level: dict[str, Any], name: str, percentile: str, digits: int) -> str:
    value = level.get(name)
    if percentile:
        value = value and value[percentile]
    return "-" if value is None else f"{value:,.{digits}f}"
