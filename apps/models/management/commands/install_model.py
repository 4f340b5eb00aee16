import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.console import find_project
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
        project = find_project(options["project"]) if options["project"] else None
        try:
            if options["token_file"]:
                save_hub_token(project=project, token=options["token_file"].read_text())
            install = start_install(
                source=_source(options["source"]),
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


def _source(text: str) -> str:
    """A folder that is named from where we stand, by its whole path; anything else as it is. Raises `CommandError`.

    What could be both, a folder `owner/name` and the hub's repository of that name, is the folder: standard error says
    so, and how to name the other.
    """
    folder = Path(text).expanduser()
    meant = text.startswith((".", "~"))
    if meant and not folder.is_dir():
        raise CommandError(f"There is no folder {text}.")
    if folder.is_absolute() and not meant:
        return text
    if not meant and not folder.is_dir():
        return text
    if not meant:
        print(f"{text} is a folder here; https://huggingface.co/{text} is the hub's repository.", file=sys.stderr)
    return str(folder.resolve())
