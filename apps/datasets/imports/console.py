"""Imports on a terminal, for the management command: a bar, the errors, and the sentence on how it ended."""

import asyncio
from contextlib import aclosing

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from apps.datasets.imports.job import TOPIC
from apps.datasets.models import Import
from apps.events import progress

INTERRUPTED = 130  # the shell's code for Ctrl-C


def wait_for(job: Import) -> None:
    """Show a bar until it has ended. Raises `CommandError` unless it completed; Ctrl-C lets it go on."""
    try:
        asyncio.run(_follow(job.uid))
    except KeyboardInterrupt:
        message = f"Stopped watching; {job.uid} goes on, and can be cancelled in the admin."
        raise CommandError(message, returncode=INTERRUPTED) from None
    job.refresh_from_db()
    if job.errors:
        Console(stderr=True).print(errors_table(job))
    if job.status != Import.Status.COMPLETED:
        raise CommandError(f"{job.uid} is {job.status}: {job.message}")


def errors_table(job: Import) -> Table:
    """Its first errors; what they quote of the file is no markup."""
    title = f"{job.skipped:,} row{'s' * (job.skipped != 1)} cannot be used"
    table = Table("line", "message", title=title, title_justify="left")
    for error in job.errors:
        table.add_row(str(error["line"]), Text(error["message"]))
    return table


async def _follow(uid: str) -> None:
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        async with aclosing(progress.watch(TOPIC, uid)) as snapshots:
            async for snapshot in snapshots:
                done, total = snapshot["completed"], snapshot["total"] or None
                bar.update(task, description=snapshot["status_label"], completed=done, total=total)
