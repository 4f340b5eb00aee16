from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.models.console import find_model
from apps.models.installs.console import wait_for
from apps.models.services import save_hub_token, start_install


class Command(BaseCommand):
    help = "Install a model: the address of a repository, owner/name[@revision], or a folder of this machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source")
        parser.add_argument("--name", default="", help="what requests call it; owner/name if left out")
        parser.add_argument("--base", metavar="MODEL", help="for an adapter that does not say itself what it is for")
        parser.add_argument("--project", metavar="NAME", help="only for this project; for all if left out")
        parser.add_argument("--token-file", type=Path, metavar="PATH", help="holds the hub's token, which is kept")
        parser.add_argument("--wait", action="store_true", help="until it is ready; exit code 1 if it is not")

    def handle(self, *_: Any, **options: Any) -> None:
        project = _project(options["project"])
        try:
            if options["token_file"]:
                save_hub_token(project=project, token=options["token_file"].read_text())
            install = start_install(
                source=options["source"],
                name=options["name"],
                base=find_model(options["base"]) if options["base"] else None,
                project=project,
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(f"Cannot read {options['token_file']}: {error.strerror}.") from error
        self.stdout.write(install.uid)
        if options["wait"]:
            wait_for(install)


def _project(name: str | None) -> Project | None:
    if name is None:
        return None
    project = Project.objects.filter(name=name).first()
    if project is None:
        names = ", ".join(Project.objects.values_list("name", flat=True)[:20]) or "none; make one in the admin"
        raise CommandError(f"There is no project {name!r}. Projects: {names}.")
    return project
