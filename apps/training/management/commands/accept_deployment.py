from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.training import console
from apps.training.deployments.services import accept


class Command(BaseCommand):
    help = "Serve a tuned model that changed, but not as taught, now that somebody has looked at its answers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("deployment", help="its id or name")

    def handle(self, *_: Any, **options: Any) -> None:
        deployment = console.find_deployment(options["deployment"])
        if not accept(deployment=deployment):
            raise CommandError(f"{deployment.name} is {deployment.status}: there is nothing to accept.")
        self.stdout.write(deployment.name)
