from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.batches.console import DROP, batches_table
from apps.batches.models import Batch
from apps.core.console import show, whole_number


class Command(BaseCommand):
    help = "List the newest batches."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--status", choices=Batch.Status.values)
        parser.add_argument("--limit", type=whole_number, default=20)

    def handle(self, *_: Any, **options: Any) -> None:
        batches = Batch.objects.with_progress()
        if options["status"]:
            batches = batches.filter(status=options["status"])
        show(batches_table(batches[: options["limit"]]), drop=DROP)
