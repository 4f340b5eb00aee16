from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.console import confirm, show
from apps.core.errors import Conflict
from apps.models.console import find_model
from apps.models.installs.console import preview_table
from apps.models.services import delete_model, delete_preview


class Command(BaseCommand):
    help = "Delete a model, and its files where nothing else needs them; shows first what that means."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *_: Any, **options: Any) -> None:
        model = find_model(options["name"])
        preview = delete_preview(model=model)
        show(preview_table(preview))
        if preview.blockers:
            raise CommandError(" ".join(preview.blockers))
        if not options["yes"]:
            confirm(f"Delete {model.name}?")
        try:
            delete_model(model=model)
        except Conflict as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{preview.model} is deleted.")
