"""Imports on a terminal, for the management command: a bar, the errors, and the sentence on how it ended."""

from django.core.management.base import CommandError
from rich.progress import DownloadColumn
from rich.table import Table
from rich.text import Text

from apps.core.console import show, terminal
from apps.datasets.imports.job import TOPIC
from apps.datasets.models import Import
from apps.events.console import Speed, follow


def wait_for(job: Import) -> None:
    """Show a bar until it has ended. Raises `CommandError` unless it completed; Ctrl-C lets it go on."""
    follow(TOPIC, job.uid, DownloadColumn(), Speed())
    job.refresh_from_db()
    if job.errors:
        show(errors_table(job), console=terminal(stderr=True))
    if len(job.reasons) > 1:
        show(reasons_table(job), console=terminal(stderr=True))
    if any(use["use"] != "used" for use in job.uses):
        show(uses_table(job), console=terminal(stderr=True))
    if job.status != Import.Status.COMPLETED:
        raise CommandError(f"{job.uid} is {job.status}: {job.message}")


def errors_table(job: Import) -> Table:
    """Its first errors; what they quote of the file is no markup."""
    title = f"{job.skipped:,} row{'s' * (job.skipped != 1)} cannot be used"
    table = Table("line", "message", title=title, title_justify="left")
    for error in job.errors:
        table.add_row(str(error["line"]), Text(error["message"]))
    return table


def reasons_table(job: Import) -> Table:
    table = Table("rows", "first line", "why, for example", title=f"{len(job.reasons)} reasons", title_justify="left")
    for reason in job.reasons:
        table.add_row(f"{reason['rows']:,}", str(reason["line"]), Text(reason["message"]))
    return table


def uses_table(job: Import) -> Table:
    """What became of its columns and keys."""
    table = Table("column or key", "becomes", "rows", "first line", title="Columns and keys", title_justify="left")
    for use in job.uses:
        elsewhere = f" ({use['becomes']} elsewhere)" if use["becomes"] else ""
        becomes = {"not_used": f"not used{elsewhere}", "kept": "kept with the row as it came"}
        table.add_row(
            Text(use["name"]), Text(becomes.get(use["use"], use["becomes"])), f"{use['rows']:,}", str(use["line"])
        )
    return table
