from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.accounts.console import find_project
from apps.core.console import show, whole_number
from apps.training.console import DROP, find_job, jobs_table, write_list
from apps.training.models import TrainingJob


class Command(BaseCommand):
    help = "List fine-tuning jobs, the latest first, or the rows that one of them cannot use or leaves out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", metavar="NAME")
        parser.add_argument("--status", choices=TrainingJob.Status.values)
        parser.add_argument("--limit", type=whole_number, default=100)
        lists = parser.add_mutually_exclusive_group()
        lists.add_argument("--bad-rows", metavar="JOB", help="print all of its rows that cannot be used, as JSON lines")
        lists.add_argument("--left-out", metavar="JOB", help="the same, of rows of which nothing is learned")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["bad_rows"] or options["left_out"]:
            job = find_job(options["bad_rows"] or options["left_out"])
            write_list(job.errors_file if options["bad_rows"] else job.left_out_file, job, self.stdout.write)
            return
        jobs = TrainingJob.objects.select_related("project")
        if options["project"]:
            jobs = jobs.filter(project=find_project(options["project"]))
        if options["status"]:
            jobs = jobs.filter(status=options["status"])
        show(jobs_table(jobs[: options["limit"]]), drop=DROP)
