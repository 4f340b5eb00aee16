"""Runs on a terminal: what they will take, and a bar for each column."""

import asyncio
from contextlib import aclosing
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from apps.datasets.models import Run
from apps.datasets.runs.estimates import Estimate
from apps.datasets.runs.progress import RunTopic
from apps.datasets.runs.services import TOPIC
from apps.events import progress

INTERRUPTED = 130  # the shell's code for Ctrl-C


def wait_for(run: Run) -> None:
    """Show a bar for each column until all have ended. Raises `CommandError` unless every example was answered."""
    try:
        asyncio.run(_follow(run.uid))
    except KeyboardInterrupt:
        message = f"Stopped watching; {run.uid} goes on, and can be cancelled in the admin."
        raise CommandError(message, returncode=INTERRUPTED) from None
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


async def _follow(uid: str) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]:,} failed  {task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[int, TaskID] = {}
        async with aclosing(progress.watch(TOPIC, uid)) as snapshots:
            async for snapshot in snapshots:
                for column in snapshot["columns"]:
                    _show(bars, tasks, column)


def _show(bars: Progress, tasks: dict[int, TaskID], column: dict[str, Any]) -> None:
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
