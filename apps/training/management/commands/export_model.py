from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from apps.core.console import whole_number
from apps.core.errors import DomainError
from apps.training.console import find_checkpoint, find_deployment, find_job
from apps.training.deployments import packages
from apps.training.deployments.packages import Package


class Command(BaseCommand):
    help = "Take a fine-tuned model elsewhere: a .tar of its files, GGUF, or a private repository of the hub."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="a job's id, for what it learned, or a deployment's name or id")
        parser.add_argument("--step", type=whole_number, metavar="N", help="of the job's checkpoint; else its result")
        parser.add_argument("--output", type=Path, metavar="PATH", help="a .tar is written there")
        parser.add_argument("--gguf", type=Path, metavar="PATH", help="of a merged deployment; needs llama.cpp")
        parser.add_argument("--gguf-type", choices=packages.GGUF_TYPES, default=packages.GGUF_TYPES[0])
        parser.add_argument("--push", default="", metavar="OWNER/NAME", help="a private model on the hub")

    def handle(self, *_: Any, **options: Any) -> None:
        if not (options["output"] or options["gguf"] or options["push"]):
            raise CommandError("Say where to: --output PATH, --gguf PATH or --push OWNER/NAME.")
        try:
            package = _package(options["model"], options["step"])
            if options["output"]:
                _write(package, options["output"])
                self.stdout.write(str(options["output"]))
            if options["gguf"]:
                with Console(stderr=True).status("llama.cpp converts it"):
                    packages.convert_to_gguf(package, options["gguf"].absolute(), kind=options["gguf_type"])
                self.stdout.write(str(options["gguf"]))
            if options["push"]:
                with Console(stderr=True).status("It is sent to the hub"):
                    self.stdout.write(packages.push(package, options["push"]))
        except DomainError as error:
            raise CommandError(error.message) from error


def _package(name: str, step: int | None) -> Package:
    if name.startswith("ftjob-"):
        return packages.of_checkpoint(find_checkpoint(find_job(name), step))
    return packages.of_deployment(find_deployment(name))


def _write(package: Package, path: Path) -> None:
    try:
        with path.open("wb") as file:
            file.writelines(package.tar())
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.") from error
