"""Runs on a terminal: what they will take, and a bar for each column."""

from typing import Any

from django.core.management.base import CommandError
from rich.progress import MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from apps.datasets.models import Run
from apps.datasets.runs.estimates import Estimate
from apps.datasets.runs.progress import RunTopic
from apps.datasets.runs.services import TOPIC
from apps.events.console import follow


def wait_for(run: Run) -> None:
    """Show a bar for each column until all have ended. Raises `CommandError` unless every example was answered."""
    tasks: dict[int, TaskID] = {}
    figures = (MofNCompleteColumn(), TextColumn("{task.fields[failed]:,} failed  {task.fields[status]}"))
    follow(TOPIC, run.uid, *figures, show=lambda bars, snapshot: _show(bars, tasks, snapshot["columns"]))
    snapshot = RunTopic().snapshot(run.uid)
    if snapshot is None:
        raise CommandError("The run was deleted.")
    if missing := snapshot["total"] - snapshot["completed"]:
        raise CommandError(f"{run.uid} is {snapshot['status']}: {missing:,} of {snapshot['total']:,} have no answer.")


def estimate_table(estimate: Estimate) -> Table:
    """A row for each model."""
    title = f"{estimate.items:,} examples, {estimate.samples} answers each; an estimate"
    table = Table("model", "tokens in", "tokens out", "time", "cost", title=title, title_justify="left")
    for each in estimate.models:
        cost = "-" if each.cost is None else f"{each.cost:,.2f} {estimate.currency}"
        table.add_row(each.model, f"{each.input_tokens:,}", f"{each.output_tokens:,}", _time(each.seconds), cost)
    return table


def _show(bars: Progress, tasks: dict[int, TaskID], columns: list[dict[str, Any]]) -> None:
    for column in columns:
        if column["id"] not in tasks:
            tasks[column["id"]] = bars.add_task(column["label"], total=column["total"], failed=0, status="")
        bars.update(
            tasks[column["id"]],
            completed=column["answered"] + column["failed"],
            failed=column["failed"],
            status=column["status"].replace("_", " "),
        )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "under a minute"
    )
