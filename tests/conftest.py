"""The test session's own PostgreSQL and Valkey, and the cast: a project with its key, and a stranger with another."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key, create_project
from apps.models.models import Model
from apps.models.services import register_model
from batchserver import embedded, stack
from batchserver.supervisor import running
from tests.state import VAR_DIR

MEASURED = ("faults", "stack")


def pytest_configure() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # crowds of clients need more than the usual 1024 files
    settings.STATIC_ROOT.mkdir(parents=True)  # whitenoise warns without it
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one takes 0.3 s


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last those that measure how long things take: the other half of the suite has ended by then."""
    items.sort(key=lambda item: item.path.parent.name in MEASURED)


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """The embedded PostgreSQL and Valkey, running."""
    with running([stack.servers()], var=VAR_DIR, say=lambda name, line: None):
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None) -> None:
    """Has the servers running before pytest-django makes its database."""


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
