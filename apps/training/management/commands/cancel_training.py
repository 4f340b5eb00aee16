from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.training.console import find_job
from apps.training.services import cancel_job


class Command(BaseCommand):
    help = "Stop fine-tuning jobs within seconds; their checkpoints stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("jobs", nargs="+", metavar="JOB", help="its id")

    def handle(self, *_: Any, **options: Any) -> None:
        jobs = [find_job(uid) for uid in options["jobs"]]
        ended = [job.uid for job in jobs if not cancel_job(job=job)]
        if ended:
            raise CommandError(f"Ended, or cancelled before: {', '.join(ended)}.")
