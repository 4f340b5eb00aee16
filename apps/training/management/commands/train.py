from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.errors import DomainError
from apps.models.console import find_model
from apps.training import console
from apps.training.models import TrainingJob
from apps.training.options import FIELDS
from apps.training.services import create_job


class Command(BaseCommand):
    help = "Fine-tune a model, as POST /v1/fine_tuning/jobs would; waits, and prints the job's id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        source = "a JSONL file's path, the id of a file or an export, or a dataset's name: its starred answers"
        parser.add_argument("source", help=source)
        parser.add_argument("--model", required=True, metavar="NAME", help="the base")
        parser.add_argument("--project", metavar="NAME", help="the oldest if left out")
        parser.add_argument("--run", default="", metavar="NAME", help="of the dataset; the latest if left out")
        parser.add_argument("--validation", type=Path, metavar="PATH", help="a JSONL file")
        parser.add_argument("--method", choices=TrainingJob.Method.values, default=TrainingJob.Method.SFT)
        parser.add_argument("--technique", choices=TrainingJob.Technique.values, default=TrainingJob.Technique.LORA)
        parser.add_argument("--suffix", default="", help="of the model's name")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=", ".join(FIELDS))
        parser.add_argument("--no-wait", action="store_true", help="else exit code 1 unless it succeeded")

    def handle(self, *_: Any, **options: Any) -> None:
        base = find_model(options["model"])
        chosen = console.chosen(options["set"])
        try:
            file = console.training_file(
                options["source"], project=options["project"], method=options["method"], run=options["run"]
            )
            validation = console.upload(options["validation"], file.project) if options["validation"] else None
            job = create_job(
                project=file.project,
                base=base,
                training_file=file,
                validation_file=validation,
                method=options["method"],
                technique=options["technique"],
                options=chosen,
                suffix=options["suffix"],
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(job.uid)
        if not options["no_wait"]:
            console.wait_for_job(job)
            self.stderr.write(f"{job.message} Deploy it: manage.py deploy_model {job.uid}")
