import os
import subprocess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.models.engine_command import public
from apps.models.services import register_model

NAME = "smollm2-135m-instruct"


class Command(BaseCommand):
    help = f"Makes the demo model {NAME} (135 million parameters, Apache-2.0) and registers it. No download."

    def handle(self, *_: Any, **__: Any) -> None:
        folder: Path = settings.MODELS_DIR / NAME
        if not folder.exists():
            self.stdout.write(f"Converting {NAME}, which takes half a minute ...")
            convert(folder)
        register_model(name=NAME, path=folder, runner="generate", owned_by="HuggingFaceTB", license="Apache-2.0")
        self.stdout.write(f"Model {NAME} is ready in {folder}.")


def convert(folder: Path) -> None:
    """Make the folder, in the engine's interpreter. Raises CommandError."""
    python: Path = settings.ENGINE_PYTHON
    try:
        subprocess.run(
            [python, "-m", "apps.models.demo_model", folder], cwd=settings.BASE_DIR, env=public(os.environ), check=True
        )
    except FileNotFoundError as error:
        raise CommandError(f"There is no {python}: run `make setup`, or set ENGINE_PYTHON.") from error
    except subprocess.CalledProcessError as error:
        raise CommandError(f"The demo model was not made; what {python} says above is why.") from error
