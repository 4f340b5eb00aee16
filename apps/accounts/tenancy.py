"""The one place where tenants are kept apart: every QuerySet of a project's objects inherits this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from django.contrib.auth.models import AnonymousUser, User
from django.db import models

if TYPE_CHECKING:
    from apps.accounts.models import Project

Row_co = TypeVar("Row_co", bound=models.Model, covariant=True)


class TenantQuerySet(models.QuerySet[Row_co], Generic[Row_co]):
    """Rows with a `project`. Whatever is not in the result does not exist for the asker (404, never 403)."""

    def of(self, project: Project) -> Self:
        return self.filter(project=project)

    def visible_to(self, user: User | AnonymousUser) -> Self:
        """The rows of the user's projects; all for a superuser, none for a stranger."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_superuser else self.filter(project__members=user)
