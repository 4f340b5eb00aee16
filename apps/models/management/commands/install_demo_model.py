import os
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.models.engines.command import public
from apps.models.installs.console import wait_for
from apps.models.models import Install, Model
from apps.models.services import start_install

NAME = "smollm2-135m-instruct"


class Command(BaseCommand):
    help = f"Makes the demo model {NAME} (135 million parameters, Apache-2.0) and installs it. No download."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--wait", action="store_true", help="until it is ready, which needs the site to run")

    def handle(self, *_: Any, **options: Any) -> None:
        folder: Path = settings.MODELS_DIR / NAME
        if not folder.exists():
            self.stdout.write(f"Converting {NAME}, which takes half a minute ...")
            convert(folder)
        install = None if Model.objects.filter(name=NAME, ready=True).exists() else _install(folder)
        if install and options["wait"]:
            wait_for(install)
            install = None
        self.stdout.write(f"Model {NAME} is {'being installed from' if install else 'ready in'} {folder}.")


def _install(folder: Path) -> Install:
    """The one that goes on, or a new one."""
    going_on = Install.objects.filter(name=NAME).exclude(status__in=Install.ENDED)
    install = going_on.first() or start_install(source=str(folder), name=NAME, project=None)
    going_on.update(license="Apache-2.0")  # a folder says nothing about it
    return install


def convert(folder: Path) -> None:
    """Make the folder, in the engine's interpreter. Raises CommandError."""
    python: Path = settings.ENGINE_PYTHON
    try:
        subprocess.run(
            [python, "-m", "apps.models.installs.demo_model", folder],
            cwd=settings.BASE_DIR,
            env=public(os.environ),
            check=True,
        )
    except FileNotFoundError as error:
        raise CommandError(f"There is no {python}: run `make setup`, or set ENGINE_PYTHON.") from error
    except subprocess.CalledProcessError as error:
        raise CommandError(f"The demo model was not made; what {python} says above is why.") from error
