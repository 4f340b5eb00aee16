"""The test session's own PostgreSQL and Valkey, and the cast: a project with its key, and a stranger with another."""

import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models.query import MAX_GET_RESULTS
from django.db.models.sql.compiler import SQLCompiler
from django.test import TransactionTestCase
from psycopg import sql
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key, create_project
from apps.models.models import Model
from apps.models.services import register_model
from batchserver import embedded, stack
from batchserver.supervisor import running
from tests.migrated import copy_migrated
from tests.state import VAR_DIR

DELETE = sql.SQL("DELETE FROM {}")
KEPT = {"django_content_type", "auth_permission", "django_migrations"}


def pytest_configure() -> None:
    pytest.MonkeyPatch().setattr(SQLCompiler, "as_sql", refusing_lost_order(SQLCompiler.as_sql))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # crowds of clients need more than the usual 1024 files
    settings.STATIC_ROOT.mkdir(parents=True)  # whitenoise warns without it
    pytest.MonkeyPatch().setattr(TransactionTestCase, "_fixture_teardown", empty)
    settings.DATABASES["default"]["OPTIONS"]["pool"]["timeout"] = 60  # seconds: machines are busy with tests
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one takes 0.3 s


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """The embedded PostgreSQL and Valkey, running. Its database has the name that pytest-django looks for."""
    copy_migrated(VAR_DIR)
    connection.settings_dict["PASSWORD"] = embedded.password(VAR_DIR)
    with running([stack.servers()], var=VAR_DIR, say=lambda name, line: None):
        with psycopg.connect(embedded.database_url(VAR_DIR), dbname="postgres", autocommit=True) as postgres:
            postgres.execute(f"ALTER DATABASE {embedded.DATABASE} RENAME TO test_{embedded.DATABASE}")
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None) -> None:
    """Has the servers running before pytest-django looks for its database."""


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """The database has every migration already, and goes away with its server."""
    return True


def refusing_lost_order(as_sql: Callable[..., Any]) -> Callable[..., Any]:
    """Django leaves `Meta.ordering` out of a query with GROUP BY, without a word: one that takes the first rows of such
    a query takes any rows."""

    def checked(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        made = as_sql(self, *args, **kwargs)
        limited = self.query.high_mark not in (None, MAX_GET_RESULTS, 1)  # these are get(), and exists()
        assert not (limited and vars(self).get("_meta_ordering") and " GROUP BY " in made[0]), f"No order: {made[0]}"
        return made

    return checked


def empty(_: TransactionTestCase) -> None:
    """What follows a test that commits. Django's own makes every permission anew, and truncates, which takes much
    longer than to delete few rows. Foreign keys are checked at the end."""
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.SQL(";").join(DELETE.format(sql.Identifier(table)) for table in sorted(tables)))


@pytest.fixture
def process_env(transactional_db: None) -> dict[str, str]:
    """The environment in which a real process of the server works on the test's database."""
    host = quote(str(embedded.postgres_dir(VAR_DIR)), safe="")
    name = connection.settings_dict["NAME"]
    return {
        **os.environ,
        "DATABASE_URL": f"postgres://app:{embedded.password(VAR_DIR)}@/{name}?host={host}",
        "REDIS_URL": settings.REDIS_URL,
    }


@dataclass(frozen=True)
class Tenant:
    """A project, the secret of a key with every scope, and a client that uses it."""

    project: Project
    key: str
    api: APIClient


def client(secret: str) -> APIClient:
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return api


def _tenant(name: str) -> Tenant:
    project = create_project(name=name)
    _, secret = create_api_key(project=project, name="test")
    return Tenant(project, secret, client(secret))


@pytest.fixture
def owner(db: None) -> Tenant:
    return _tenant("owner")


@pytest.fixture
def project(owner: Tenant) -> Project:
    return owner.project


@pytest.fixture
def key(owner: Tenant) -> str:
    """The secret of a key of `project` with every scope."""
    return owner.key


@pytest.fixture
def api(owner: Tenant) -> APIClient:
    """A client with `key`."""
    return owner.api


@pytest.fixture
def stranger(db: None) -> APIClient:
    """A client with a key of another project."""
    return _tenant("stranger").api


@pytest.fixture
def model(db: None, tmp_path: Path) -> Model:
    """A model that everybody may use; its weights are an empty folder."""
    (tmp_path / "config.json").write_text("{}")
    return register_model(name="test-model", path=tmp_path)
