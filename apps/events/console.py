"""Watching something on a terminal: what every command that shows a bar shares."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from apps.core.console import INTERRUPTED
from apps.events import progress


class Speed(TransferSpeedColumn):
    """Bytes a second; nothing where it is not known, or where it is over."""

    def render(self, task: Task) -> Text:
        return Text() if task.finished or not task.speed else super().render(task)


Show = Callable[[Progress, progress.Snapshot], None]


def one_bar(bars: Progress, snapshot: progress.Snapshot) -> None:
    """What is done of the whole."""
    task = bars.task_ids[0] if bars.task_ids else bars.add_task("", total=None)
    done, total = snapshot["completed"], snapshot["total"] or None
    bars.update(task, description=snapshot["status_label"], completed=done, total=total)
    say_why(bars, task, snapshot)


def say_why(bars: Progress, task: TaskID, snapshot: progress.Snapshot) -> None:
    """Why it waits, on a line of its own above the bars, once."""
    message = "" if snapshot["final"] else snapshot.get("message", "")
    said = next(each.fields.get("message", "") for each in bars.tasks if each.id == task)
    if message and message != said:
        bars.console.print(Text(message))
    bars.update(task, message=message)


def follow(topic: str, uid: str, *figures: ProgressColumn, show: Show = one_bar) -> None:
    """Show bars, with `figures` behind each, until it has ended. `CommandError`: Ctrl-C, which ends nothing."""
    try:
        asyncio.run(_follow(topic, uid, figures, show))
    except KeyboardInterrupt:
        message = f"Stopped watching; {uid} goes on, and can be cancelled in the admin."
        raise CommandError(message, returncode=INTERRUPTED) from None


async def _follow(topic: str, uid: str, figures: tuple[ProgressColumn, ...], show: Show) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), *figures)
    with Progress(*columns, console=Console(stderr=True)) as bars:
        async with aclosing(progress.watch(topic, uid)) as snapshots:
            async for snapshot in snapshots:
                show(bars, snapshot)
