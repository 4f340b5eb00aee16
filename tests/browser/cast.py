"""Who plays in the browser tests: a superuser, a project and a model. Runs in the site's shell."""

from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User

from apps.accounts.services import create_project
from apps.models.services import register_model

NAME, PASSWORD, PROJECT, MODEL = "ada", "analytical-engine", "research", "smol-fake"


def main() -> None:
    User.objects.create_superuser(NAME, "ada@example.org", PASSWORD)
    create_project(name=PROJECT)
    folder = Path(settings.MODELS_DIR) / MODEL
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    register_model(name=MODEL, path=folder)
