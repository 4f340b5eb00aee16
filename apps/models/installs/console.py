"""Installs and deletions on a terminal, for the management commands."""

from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat
from rich.progress import DownloadColumn, Progress, Task, TaskID
from rich.table import Table
from rich.text import Text

from apps.core.console import terminal
from apps.events import progress
from apps.events.console import Speed, follow
from apps.models.installs.progress import TOPIC
from apps.models.models import Install
from apps.models.removal import Preview

STEPS_OF_BYTES = (Install.Status.DOWNLOADING, Install.Status.CHECKING)


def wait_for(install: Install) -> None:
    """Show a bar for each step until it has ended. Raises `CommandError` unless it is ready; Ctrl-C lets it go on."""
    tasks: dict[str, TaskID] = {}
    follow(TOPIC, install.uid, *FIGURES, show=lambda bars, snapshot: show_step(bars, tasks, snapshot))
    install.refresh_from_db()
    for refusal in install.refusals:
        terminal(stderr=True).print(f"  {refusal['file']}: {refusal['reason']}", markup=False, highlight=False)
    if install.status != Install.Status.READY:
        raise CommandError(f"{install.name} is {install.status}: {install.message}")


class _Bytes(DownloadColumn):
    """Of steps that count bytes; the others have none to show."""

    def render(self, task: Task) -> Text:
        return super().render(task) if _counts_bytes(task) else Text()


class _BytesPerSecond(Speed):
    def render(self, task: Task) -> Text:
        return super().render(task) if _counts_bytes(task) else Text()


def _counts_bytes(task: Task) -> bool:
    return bool(task.fields["step"] in STEPS_OF_BYTES and task.total)


FIGURES = (_Bytes(), _BytesPerSecond())


def preview_table(preview: Preview) -> Table:
    table = Table(title=f"Deleting {preview.model}", title_justify="left", show_header=False)
    freed = preview.files_stay or f"{filesizeformat(preview.bytes_freed)} are freed."
    table.add_row("files", f"{preview.folder}\n{freed}")
    table.add_row("engines", ", ".join(preview.engines) or "none runs")
    table.add_row("benchmarks", f"{preview.benchmarks} go with it")
    for use in preview.uses:
        table.add_row(use.what, f"{use.total} name it and are kept; {use.running} need it now")
    return table


def show_step(bars: Progress, tasks: dict[str, TaskID], snapshot: progress.Snapshot) -> None:
    """The step that begins gets a bar; those before it are done."""
    status = snapshot["status"]
    if status not in tasks:
        for before in tasks.values():
            bars.update(before, total=1, completed=1) if bars.tasks[before].total is None else bars.stop_task(before)
        if snapshot["final"]:
            return
        tasks[status] = bars.add_task(snapshot["status_label"], total=None, step=status)
    if status in STEPS_OF_BYTES:
        bars.update(tasks[status], total=snapshot["bytes_total"] or None, completed=snapshot["bytes_done"])
