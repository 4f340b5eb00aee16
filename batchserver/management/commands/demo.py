"""Run a real batch on a real model, and leave the site running."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.table import Table
from rich.text import Text

from apps.batches import console
from apps.batches.models import Batch
from apps.core.console import show
from batchserver import demo
from batchserver.embedded import StartError

EXAMPLE = settings.BASE_DIR / "examples" / "capitals.jsonl"


class Command(BaseCommand):
    help = "Starts the site if need be, runs a batch of questions, prints the answers and the login."
    requires_system_checks = []

    def handle(self, *_: Any, **__: Any) -> None:
        try:
            self.stdout.write("Starting the site ...")
            demo.ensure_site()
            self.stdout.write("Trying the model, which takes a minute on a CPU the first time ...")
            call_command("install_demo_model", wait=True, stdout=self.stdout)
            access = demo.grant(_model(EXAMPLE))
            self.stdout.write(f"Sending {EXAMPLE.name} ...")
            batch = demo.send(access, EXAMPLE)
            console.wait_for(Batch.objects.get(uid=batch))
            show(_answers_table(demo.answers(access, batch)))
        except (StartError, demo.DemoError) as error:
            raise CommandError(str(error)) from error
        self._farewell(access)

    def _farewell(self, access: demo.Access) -> None:
        password = access.admin_password or "(the one you chose)"
        self.stdout.write(
            f"\nThe site goes on running; `make down` stops it.\n"
            f"  Web    {access.web_url}  log in as {access.admin_user} with {password}\n"
            f"  API    {access.base_url}  key {access.api_key}\n"
            f"All of this is in {settings.VAR_DIR / 'demo.env'} too."
        )


def _requests(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _model(path: Path) -> str:
    return str(_requests(path)[0]["body"]["model"])


def _answers_table(answers: dict[str, str]) -> Table:
    table = Table("Question", "Answer")
    for request in _requests(EXAMPLE):
        question = request["body"]["messages"][-1]["content"]
        table.add_row(Text(question), Text(answers.get(request["custom_id"], "(no answer)")))
    return table
