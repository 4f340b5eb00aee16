from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.accounts.console import find_project
from apps.accounts.models import Scope
from apps.accounts.services import create_api_key
from apps.core.console import whole_number


class Command(BaseCommand):
    help = "Make an API key for a project. The secret is printed once and kept nowhere."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="the project's name or id")
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--scopes", nargs="+", metavar="SCOPE", help=f"default: all ({', '.join(Scope.values)})")
        parser.add_argument("--models", nargs="+", metavar="MODEL", default=[], help="default: every model")
        parser.add_argument(
            "--user", metavar="NAME", help="whose decisions come by the key; without one it cannot review"
        )
        parser.add_argument("--expires-days", type=whole_number, metavar="N", help="default: never")

    def handle(self, *_: Any, **options: Any) -> None:
        project = find_project(options["project"])
        user = User.objects.filter(username=options["user"]).first()
        if options["user"] and user is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        days = options["expires_days"]
        try:
            _key, secret = create_api_key(
                project=project,
                name=options["name"],
                scopes=options["scopes"],
                allowed_models=options["models"],
                expires_at=timezone.now() + timedelta(days=days) if days else None,
                created_by=user,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stderr.write("This is the only time that the key is shown:")
        self.stdout.write(secret)
