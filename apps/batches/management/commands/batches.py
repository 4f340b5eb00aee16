from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console

from apps.batches.console import batches_table
from apps.batches.models import Batch


class Command(BaseCommand):
    help = "List the newest batches."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--status", choices=Batch.Status.values)
        parser.add_argument("--limit", type=int, default=20)

    def handle(self, *_: Any, **options: Any) -> None:
        batches = Batch.objects.with_progress()
        if options["status"]:
            batches = batches.filter(status=options["status"])
        Console().print(batches_table(batches[: options["limit"]]))
