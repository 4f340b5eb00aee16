from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.console import whole_number
from apps.core.errors import DomainError
from apps.training import console
from apps.training.deployments.judged import chosen
from apps.training.deployments.services import deploy
from apps.training.models import Deployment


class Command(BaseCommand):
    help = "Serve what a job learned, once it was compared with its base; waits, and shows the comparison."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="its id")
        parser.add_argument("--step", type=whole_number, metavar="N", help="of a checkpoint; else the job's result")
        parser.add_argument("--kind", choices=Deployment.Kind.values, default=Deployment.Kind.ADAPTER)
        parser.add_argument("--name", default="", help="what requests call it; ft:… if left out")
        parser.add_argument(
            "--judge", default="", metavar="MODEL", help="it also scores what base and tuned model answer"
        )
        parser.add_argument("--rubric", default="", help="the judge's; else: the answer says what the reference says")
        parser.add_argument("--no-wait", action="store_true", help="else exit code 1 unless it is served")

    def handle(self, *_: Any, **options: Any) -> None:
        job = console.find_job(options["job"])
        checkpoint = console.find_checkpoint(job, options["step"])
        model = console.find_judge(job, options["judge"]) if options["judge"] else None
        try:
            judge = chosen(model, options["rubric"])
            deployment = deploy(checkpoint=checkpoint, kind=options["kind"], name=options["name"], judge=judge)
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(deployment.name)
        if not options["no_wait"]:
            console.wait_for_deployment(deployment)
