"""Exports on a terminal, for the management command: a bar, and where the bytes are."""

import shutil
from pathlib import Path

from django.core.management.base import CommandError
from rich.progress import MofNCompleteColumn

from apps.datasets.exports.job import TOPIC
from apps.datasets.models import Dataset, Export
from apps.events.console import follow


def find_dataset(name: str, project: str | None) -> Dataset:
    """By id, or by name. Raises `CommandError`, with where to look."""
    known = Dataset.objects.filter(project__name=project) if project else Dataset.objects.all()
    found = list(known.filter(uid=name) or known.filter(name=name)[:2])
    if len(found) > 1:
        raise CommandError(f"Several projects have a dataset {name!r}: say which with --project NAME.")
    if not found:
        names = ", ".join(known.values_list("name", flat=True)[:20]) or "none; import one with import_dataset"
        raise CommandError(f"There is no dataset {name!r}. Datasets: {names}.")
    return found[0]


def wait_for(export: Export) -> None:
    """Show a bar until it has ended. Raises `CommandError` unless it completed; Ctrl-C lets it go on."""
    follow(TOPIC, export.uid, MofNCompleteColumn())
    export.refresh_from_db()
    if export.status != Export.Status.COMPLETED:
        raise CommandError(f"{export.uid} is {export.status}. {export.message}")


def save(export: Export, path: Path) -> None:
    """Copy the file to `path`, its manifest beside it, and the list of what was left out. Raises `CommandError`."""
    copies = {path: export.file, path.with_name(f"{path.name}.manifest.json"): export.manifest_file}
    if export.left_out_file:
        copies[path.with_name(f"{path.name}.left-out.jsonl")] = export.left_out_file
    try:
        for target, file in copies.items():
            if file is None:
                raise CommandError(f"The file of {export.uid} was deleted meanwhile.")
            with file.content.open("rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.") from error
