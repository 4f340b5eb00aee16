from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.accounts.console import find_project
from apps.core.console import show, whole_number
from apps.training.console import DROP, jobs_table
from apps.training.models import TrainingJob


class Command(BaseCommand):
    help = "List fine-tuning jobs, the latest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", metavar="NAME")
        parser.add_argument("--status", choices=TrainingJob.Status.values)
        parser.add_argument("--limit", type=whole_number, default=100)

    def handle(self, *_: Any, **options: Any) -> None:
        jobs = TrainingJob.objects.select_related("project")
        if options["project"]:
            jobs = jobs.filter(project=find_project(options["project"]))
        if options["status"]:
            jobs = jobs.filter(status=options["status"])
        show(jobs_table(jobs[: options["limit"]]), drop=DROP)
