"""Batches on a terminal, for the management commands: bars, tables, and the sentence on how a batch ended."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from django.core.management.base import CommandError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from apps.batches.models import Batch, Result
from apps.batches.progress import TOPIC
from apps.core.console import INTERRUPTED, show
from apps.events import progress
from apps.events.console import say_why

WAIT = "until it has ended; exit code 0: every request was answered, 3: some or all failed, 1: it did not complete"
LINES_FAILED = 3  # exit code: the batch completed, and some or all of its lines failed
DROP = ("", "created", "failed", "done")  # columns of the batches' table, on a narrow terminal


def find_batch(uid: str) -> Batch:
    """Raises `CommandError`, with where to look."""
    batch = Batch.objects.filter(uid=uid).first()
    if batch is None:
        raise CommandError(f"There is no batch {uid!r}. `manage.py batches` lists them.")
    return batch


def wait_for(batch: Batch, wanted: str = Batch.Status.COMPLETED) -> None:
    """Show a bar until it has ended. Raises `CommandError` unless it ended as wanted; Ctrl-C leaves it running."""
    try:
        asyncio.run(_follow(batch.uid))
    except KeyboardInterrupt:
        raise CommandError(
            f"Stopped watching; {batch.uid} goes on. `manage.py cancel_batch {batch.uid}` stops it.",
            returncode=INTERRUPTED,
        ) from None
    batch.refresh_from_db()
    if batch.errors:
        show(errors_table(batch))
    if batch.status != wanted:
        raise CommandError(f"{batch.uid} is {batch.status}: {batch.get_status_display()}.")


def check_answers(batch: Batch) -> None:
    """Raises `CommandError`, with exit code `LINES_FAILED`, when a line of a completed batch has no answer."""
    failed = Result.objects.filter(batch=batch, failed=True)
    if not (count := failed.count()):
        return
    first = failed.order_by("line").values_list("line", "custom_id", "error_message", "body")[0]
    line, custom_id, message, body = first
    reason = message or (body or "").strip()
    raise CommandError(
        f"{count:,} of {batch.total:,} requests of {batch.uid} failed; the first is line {line} ({custom_id[:60]}):"
        f" {reason[:300]} All are in {batch.error_file}.",
        returncode=LINES_FAILED,
    )


def batches_table(batches: Iterable[Any]) -> Table:
    """A row per batch; they were read `with_progress`."""
    table = Table(Column("batch", no_wrap=True), "status", "", "done", "failed", "model", "created")
    for batch in batches:
        done = batch.completed_lines + batch.failed_lines
        table.add_row(
            batch.uid,
            "paused" if batch.paused_at and batch.status in Batch.OPEN else batch.status,
            ProgressBar(total=max(batch.total, 1), completed=done, width=20),
            f"{done:,}/{batch.total:,}",
            f"{batch.failed_lines:,}",
            Text(batch.model_name),
            f"{batch.created_at:%Y-%m-%d %H:%M}",
        )
    return table


def errors_table(batch: Batch) -> Table:
    """What validation found, at most 100 lines of the input."""
    table = Table("line", "code", "message", title="The input was refused")
    for error in batch.errors or []:
        table.add_row(str(error["line"] or ""), error["code"], Text(error["message"]))
    return table


async def _follow(uid: str) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]:,} failed  {task.fields[speed]:,.0f} tokens/s  {task.fields[left]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("waiting", total=None, failed=0, speed=0.0, left="")
        async with aclosing(progress.watch(TOPIC, uid)) as snapshots:
            async for snapshot in snapshots:
                bar.update(
                    task,
                    description="paused" if snapshot["paused"] else snapshot["status"].replace("_", " "),
                    total=snapshot["total"] or None,
                    completed=snapshot["completed"] + snapshot["failed"],
                    failed=snapshot["failed"],
                    speed=snapshot["tokens_per_second"],
                    left=_left(snapshot["eta_seconds"]),
                )
                say_why(bar, task, snapshot)


def _left(seconds: int | None) -> str:
    return f"{seconds // 60}:{seconds % 60:02d} left" if seconds else ""
