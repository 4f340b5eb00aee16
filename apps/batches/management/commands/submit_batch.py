import shutil
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.files.base import File as Upload
from django.core.management.base import BaseCommand, CommandError

from apps.accounts.console import project_or_oldest
from apps.accounts.models import Project
from apps.batches import console, services
from apps.batches.models import Batch, File
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Send a JSONL file as a batch, as POST /v1/batches would."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", metavar="NAME", help="the oldest if left out")
        parser.add_argument("--endpoint", choices=services.ENDPOINTS, default=services.ENDPOINTS[0])
        parser.add_argument("--priority", type=int, default=0, metavar="N", help="higher runs first")
        parser.add_argument("--wait", action="store_true", help=console.WAIT)
        parser.add_argument("--output", type=Path, metavar="PATH", help="where the results go; waits for them")

    def handle(self, *_: Any, **options: Any) -> None:
        output: Path | None = options["output"]
        if output and not output.absolute().parent.is_dir():
            raise CommandError(f"There is no folder {output.parent}: make it first.")
        try:
            batch = _submit(
                options["file"], project_or_oldest(options["project"]), options["endpoint"], options["priority"]
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(f"Cannot read {options['file']}: {error.strerror}.") from error
        self.stdout.write(batch.uid)
        if options["wait"] or output:
            console.wait_for(batch)
        if output:
            self.stderr.write(_save(batch, output))
        if options["wait"] or output:
            console.check_answers(batch)


def _submit(path: Path, project: Project, endpoint: str, priority: int) -> Batch:
    with path.open("rb") as content:
        file = services.create_file(
            project=project, filename=path.name, purpose=File.Purpose.BATCH, upload=Upload(content)
        )
    return services.create_batch(project=project, input_file=file, endpoint=endpoint, priority=priority)


def _save(batch: Batch, path: Path) -> str:
    """Copy the answers to `path`; a sentence on what is where."""
    failed = f" Errors: {batch.error_file}." if batch.error_file else ""
    if batch.output_file is None:
        return f"No line was answered.{failed}"
    with batch.output_file.content.open("rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    return f"The answers are in {path}.{failed}"
