from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.files.base import File as Upload
from django.core.management.base import BaseCommand, CommandError

from apps.accounts.console import project_or_oldest
from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import create_file, delete_file
from apps.core.errors import DomainError
from apps.datasets.imports.console import wait_for
from apps.datasets.imports.shapes import NAMES
from apps.datasets.imports.templates import FIELDS
from apps.datasets.models import Dataset, Import
from apps.datasets.services import create_dataset, start_import


class Command(BaseCommand):
    help = (
        "Add the rows of a file to a dataset, which is made if there is none of that name. JSONL, JSON, CSV or Parquet,"
        " as it is, in .gz or .zst, or a .zip of them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dataset", required=True, metavar="NAME")
        parser.add_argument("--project", metavar="NAME", help="the oldest if left out")
        parser.add_argument("--shape", choices=list(NAMES), default="", help="detected if left out")
        fields = f"a template of {', '.join(FIELDS)}: prompt='Question: {{{{ question }}}}'"
        parser.add_argument("--map", action="append", default=[], metavar="FIELD=TEMPLATE", help=fields)
        parser.add_argument("--replace", action="store_true", help="the new version holds these rows only")
        parser.add_argument("--skip-bad", action="store_true", help="leave bad rows out; else one stops all")
        parser.add_argument(
            "--accept-losses", action="store_true", help="import although columns or keys are lost; else they stop all"
        )
        parser.add_argument("--wait", action="store_true", help="until it has ended; exit code 1 unless it completed")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            job = _start(project_or_oldest(options["project"]), options)
        except DomainError as error:
            hint = " (--accept-losses)" if error.param == "accept_losses" else ""
            raise CommandError(f"{error.message}{hint}") from error
        except OSError as error:
            raise CommandError(f"Cannot read {options['file']}: {error.strerror}.") from error
        self.stdout.write(job.uid)
        if options["wait"]:
            wait_for(job)
            self.stderr.write(f"{job.message} {job.version} of {job.dataset} is there.")


def _start(project: Project, options: dict[str, Any]) -> Import:
    """Raises `DomainError` and `OSError`; then neither the file nor a new dataset is kept."""
    path: Path = options["file"]
    mapping = dict(map(_pair, options["map"]))
    known = Dataset.objects.of(project).filter(name=options["dataset"]).first()
    with path.open("rb") as content:
        file = create_file(project=project, filename=path.name, purpose=File.Purpose.USER_DATA, upload=Upload(content))
    dataset = known
    try:
        dataset = dataset or create_dataset(project=project, name=options["dataset"])
        return start_import(
            dataset=dataset, file=file, shape=options["shape"], mapping=mapping or None, replace=options["replace"],
            skip_bad=options["skip_bad"], accept_losses=options["accept_losses"],
        )  # fmt: skip
    except DomainError:
        delete_file(file=file)
        if dataset and not known:
            dataset.delete()
        raise


def _pair(text: str) -> tuple[str, str]:
    field, equals, template = text.partition("=")
    if not equals:
        raise CommandError(f"--map takes FIELD=TEMPLATE, not {text!r}.")
    return field, template
