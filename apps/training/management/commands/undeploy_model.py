from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.errors import DomainError
from apps.training.console import find_deployment
from apps.training.deployments.services import roll_back, undeploy


class Command(BaseCommand):
    help = "Serve a fine-tuned model no more; its files stay for a while, and its history for good."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="its name, or the deployment's id")
        parser.add_argument("--roll-back", action="store_true", help="serve the one that was served before it instead")

    def handle(self, *_: Any, **options: Any) -> None:
        deployment = find_deployment(options["model"])
        try:
            if options["roll_back"]:
                self.stdout.write(f"{roll_back(deployment=deployment).uid} is served again.")
            elif not undeploy(deployment=deployment):
                raise CommandError(f"{deployment.name} is {deployment.status}: there is nothing to take back.")
        except DomainError as error:
            raise CommandError(error.message) from error
