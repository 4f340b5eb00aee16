from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.errors import DomainError
from apps.datasets.exports.console import find_dataset, save, wait_for
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.selection import INCLUDE, LABEL_POLICIES, LEAVE_OUT, PAIR_POLICIES, POLICIES
from apps.datasets.exports.services import start_export
from apps.datasets.models import Dataset, Run, Split
from apps.datasets.reviews.filters import Filters


class Command(BaseCommand):
    help = "Write examples with the chosen answers to a file; prints its sha256."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dataset", help="its name or id")
        parser.add_argument("--project", metavar="NAME", help="may be left out where one project only has it")
        parser.add_argument("--run", help="its name or id; left out: the examples of the latest version")
        parser.add_argument("--format", required=True, choices=list(FORMATS))
        pairs = ", ".join(PAIR_POLICIES)
        answers = (
            f"{', '.join(POLICIES)}, column:LABEL; for pairs {pairs}; for kto these or {', '.join(LABEL_POLICIES)}"
        )
        parser.add_argument("--answers", default="", metavar="WHICH", help=answers)
        parser.add_argument(
            "--filter", action="append", default=[], metavar="NAME=VALUE", help="as in the review's URL"
        )
        parser.add_argument("--incomplete", default=LEAVE_OUT, choices=(LEAVE_OUT, INCLUDE),
                            help="answers that are cut off, filtered or refused")  # fmt: skip
        parser.add_argument("--split", default="", metavar="NAME[:PART]", help="of the version")
        parser.add_argument("--output", type=Path, metavar="PATH", help="a copy of the file, its manifest beside it")
        parser.add_argument("--push", default="", metavar="OWNER/NAME", help="a private dataset on the hub")

    def handle(self, *_: Any, **options: Any) -> None:
        output: Path | None = options["output"]
        if output and not output.absolute().parent.is_dir():
            raise CommandError(f"There is no folder {output.parent}: make it first.")
        dataset = find_dataset(options["dataset"], options["project"])
        name, _colon, part = options["split"].partition(":")
        run = _run(dataset, options["run"]) if options["run"] else None
        try:
            export = start_export(
                dataset=dataset,
                format=options["format"],
                run=run,
                filters=Filters.named(dict(map(_pair, options["filter"]))),
                split=_split(dataset, run, name) if name else None,
                part=part,
                answers=options["answers"],
                repository=options["push"],
                incomplete=options["incomplete"],
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        wait_for(export)
        if output:
            save(export, output)
        if export.message:
            self.stderr.write(export.message)
        if export.file:
            self.stdout.write(f"{export.file.sha256}  {output or export.file.uid}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--filter takes NAME=VALUE, not {text!r}.")
    return name, value


def _run(dataset: Dataset, name: str) -> Run:
    """The latest of that name, or the one of that id."""
    found = dataset.runs.filter(uid=name).first() or dataset.runs.filter(name=name).first()
    if found is None:
        names = ", ".join(dataset.runs.values_list("name", flat=True)[:20]) or "none; start one with run_dataset"
        raise CommandError(f"{dataset} has no run {name!r}. Runs: {names}.")
    return found


def _split(dataset: Dataset, run: Run | None, name: str) -> Split:
    """Of the run's version, or the latest of that name."""
    splits = Split.objects.filter(version__dataset=dataset)
    found = splits.filter(version=run.version, name=name).first() if run else None
    found = found or splits.filter(uid=name).first() or splits.filter(name=name).first()
    if found is None:
        names = ", ".join(splits.values_list("name", flat=True)[:20]) or "none; make one on the dataset's page"
        raise CommandError(f"{dataset} has no split {name!r}. Splits: {names}.")
    return found
