from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now

from apps.accounts.models import ApiKey, Membership, Project, Scope, all_scopes


def create_project(*, name: str, owner: User | None = None) -> Project:
    with transaction.atomic():
        project = Project.objects.create(name=name)
        if owner is not None:
            Membership.objects.create(project=project, user=owner, role=Membership.Role.OWNER)
    return project


def create_api_key(
    *,
    project: Project,
    name: str,
    scopes: Sequence[str] | None = None,
    allowed_models: Sequence[str] = (),
    expires_at: datetime | None = None,
    created_by: User | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is kept nowhere. Raises `ValueError` for an unknown scope."""
    wanted = list(scopes) if scopes is not None else all_scopes()
    if unknown := set(wanted) - set(Scope.values):
        raise ValueError(f"Unknown scope {sorted(unknown)[0]!r}; choose from {', '.join(Scope.values)}.")
    key = ApiKey(
        project=project,
        name=name,
        scopes=wanted,
        allowed_models=list(allowed_models),
        expires_at=expires_at,
        created_by=created_by,
    )
    secret = key.set_new_secret()
    key.save()
    return key, secret


def revoke_api_key(*, key: ApiKey) -> bool:
    """Close the door for this key at once; False when it was revoked before."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now()))
