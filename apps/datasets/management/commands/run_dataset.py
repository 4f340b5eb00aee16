from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.console import show, whole_number
from apps.core.errors import DomainError
from apps.datasets.exports.console import find_dataset
from apps.datasets.models import Dataset, Split, Version
from apps.datasets.runs import console as run_console
from apps.datasets.runs import estimates, parameters
from apps.datasets.runs import services as runs
from apps.models.console import find_model


class Command(BaseCommand):
    help = "Ask models every example of a dataset, as POST /v1/runs would."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dataset", help="its name or id")
        parser.add_argument("--model", action="append", required=True, metavar="NAME", help="again for another one")
        parser.add_argument("--project", metavar="NAME", help="may be left out where one project only has it")
        parser.add_argument("--version", type=whole_number, metavar="N", dest="number", help="the latest")
        parser.add_argument("--split", default="", metavar="NAME[:PART]", help="of the version")
        parser.add_argument("--samples", type=whole_number, default=1, metavar="N", help="answers to each prompt")
        parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help=_names())
        parser.add_argument("--name", default="", help="of the run")
        parser.add_argument("--estimate", action="store_true", help="say what it will take, and start nothing")
        parser.add_argument("--wait", action="store_true", help="exit code 1 unless every example was answered")

    def create_parser(self, prog_name: str, subcommand: str, **more: Any) -> Any:
        """Django's own --version would be in the way of ours."""
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **more)

    def handle(self, *_: Any, **options: Any) -> None:
        dataset = find_dataset(options["dataset"], options["project"])
        version = _version(dataset, options["number"])
        name, _colon, part = options["split"].partition(":")
        try:
            chosen: dict[str, Any] = {
                "version": version,
                "models": [find_model(model) for model in options["model"]],
                "parameters": parameters.check(parameters.parse(options["param"])),
                "samples": options["samples"],
                "split": _split(version, name) if name else None,
                "part": part,
            }
            if options["estimate"]:
                show(run_console.estimate_table(estimates.estimate(**chosen)))
                return
            run = runs.start_run(dataset=dataset, project=dataset.project, name=options["name"], **chosen)
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(run.uid)
        if options["wait"]:
            run_console.wait_for(run)


def _names() -> str:
    return ", ".join(parameters.NAMES)


def _version(dataset: Dataset, number: int | None) -> Version:
    versions = list(dataset.versions.all())
    found = next((each for each in versions if number in (None, each.number)), None)
    if found is None:
        numbers = ", ".join(str(each.number) for each in versions) or "none; import a file first"
        raise CommandError(f"{dataset} has no version {number or ''}. Versions: {numbers}.".replace(" .", "."))
    return found


def _split(version: Version, name: str) -> Split:
    splits = Split.objects.filter(version=version)
    found = splits.filter(uid=name).first() or splits.filter(name=name).first()
    if found is None:
        names = ", ".join(splits.values_list("name", flat=True)[:20]) or "none; make one on the dataset's page"
        raise CommandError(f"{version} has no split {name!r}. Splits: {names}.")
    return found
