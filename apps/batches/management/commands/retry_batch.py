from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.batches import console, services
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Run the failed lines of an ended batch again, as a new batch."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", help="its id")
        parser.add_argument("--wait", action="store_true", help=console.WAIT)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            retry = services.retry_batch(batch=console.find_batch(options["batch"]))
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(retry.uid)
        if options["wait"]:
            console.wait_for(retry)
            console.check_answers(retry)
