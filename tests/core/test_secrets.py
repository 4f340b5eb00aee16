"""Encrypted fields: readable by this server alone, and after a change of keys."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import Project
from apps.core import secrets
from apps.models.models import HubToken

TOKEN = "hf_canary-0123456789"


@pytest.fixture(autouse=True)
def fresh_keys() -> Iterator[None]:
    secrets._fernet.cache_clear()
    yield
    secrets._fernet.cache_clear()


def use(settings: Any, *keys: str) -> None:
    settings.ENCRYPTION_KEYS = list(keys)
    secrets._fernet.cache_clear()


def stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT token FROM models_hubtoken")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
def test_it_works() -> None:
    HubToken.objects.create(token=TOKEN, hint="6789")
    assert HubToken.objects.get().token == TOKEN
    assert TOKEN not in stored()


@pytest.mark.django_db
def test_it_reads_what_an_older_key_wrote(settings: Any) -> None:
    use(settings, "old")
    token = HubToken.objects.create(project=Project.objects.create(name="p"), token=TOKEN, hint="6789")
    use(settings, "new", "old")
    token.refresh_from_db()
    assert token.token == TOKEN
    token.save()
    use(settings, "new")
    assert HubToken.objects.get().token == TOKEN


@pytest.mark.django_db
def test_it_says_that_a_key_is_missing(settings: Any) -> None:
    use(settings, "old")
    HubToken.objects.create(token=TOKEN, hint="6789")
    use(settings, "new")
    with pytest.raises(secrets.Unreadable, match="put the old key behind the new one"):
        HubToken.objects.get()
