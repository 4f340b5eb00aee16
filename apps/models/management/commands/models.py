from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.core.console import show, whole_number
from apps.models.console import DROP, models_table
from apps.models.models import Model


class Command(BaseCommand):
    help = "List the models, what their engines do, and how they are set."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--limit", type=whole_number, default=100)

    def handle(self, *_: Any, **options: Any) -> None:
        models = Model.objects.select_related("base").prefetch_related("engines", "base__engines")
        show(models_table(models[: options["limit"]]), drop=DROP)
