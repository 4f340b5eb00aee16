from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.batches import console, services
from apps.batches.models import Batch


class Command(BaseCommand):
    help = "Stop a batch; what is done is kept in its output file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", help="its id")
        parser.add_argument("--wait", action="store_true", help="until its files are written")

    def handle(self, *_: Any, **options: Any) -> None:
        batch = console.find_batch(options["batch"])
        if not services.cancel_batch(batch=batch):
            raise CommandError(f"{batch.uid} is {batch.status} already: there is nothing to stop.")
        if options["wait"]:
            console.wait_for(batch, wanted=Batch.Status.CANCELLED)
        self.stdout.write(f"{batch.uid} is {batch.status}.")
