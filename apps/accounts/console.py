"""Projects on a command line."""

import sys

from django.core.management.base import CommandError
from django.db.models import Q

from apps.accounts.models import Project

NAMED = 20  # projects in an error


def find_project(name: str) -> Project:
    """By its name or id. Raises `CommandError`, with the names that there are."""
    project = Project.objects.filter(Q(name=name) | Q(uid=name)).first()
    if project is None:
        raise CommandError(f"There is no project {name!r}. Projects: {_names()}.")
    return project


def project_or_oldest(name: str | None) -> Project:
    """The project of that name; without a name the oldest, and standard error says which where there are several.

    Raises `CommandError`.
    """
    if name is not None:
        return find_project(name)
    oldest = list(Project.objects.order_by("pk")[:2])
    if not oldest:
        raise CommandError(f"There is no project. Projects: {_names()}.")
    if len(oldest) > 1:
        print(f"In project {oldest[0].name}, the oldest; --project NAME takes another.", file=sys.stderr)
    return oldest[0]


def _names() -> str:
    return ", ".join(Project.objects.values_list("name", flat=True)[:NAMED]) or "none; make one in the admin"
