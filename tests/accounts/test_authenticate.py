from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project, Scope
from apps.accounts.services import create_api_key, revoke_api_key


def get(authorization: str | None) -> Any:
    client = APIClient()
    if authorization is not None:
        client.credentials(HTTP_AUTHORIZATION=authorization)
    return client.get("/v1/models")


def refusal(authorization: str | None) -> str:
    response = get(authorization)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json()["error"]["type"] == "authentication_error"
    return str(response.json()["error"]["code"])


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_it_works(key: str, scheme: str) -> None:
    assert get(f"{scheme} {key}").status_code == 200


@pytest.mark.django_db
def test_it_rejects_nobody() -> None:
    assert refusal(None) == "missing_api_key"


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "sk-abc", "é", "Bearer  "])
def test_it_rejects_a_malformed_header(header: str) -> None:
    assert refusal(header) == "invalid_api_key"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "secret",
    [
        "sk-unknown",
        "' OR 1=1 --",
        "sk-%s",
        "é" * 500,
        "a b c",
        "x" * 7000,
        "sk-\\u0000",
        '"; DROP TABLE accounts_apikey;',
    ],
)
def test_it_rejects_an_unknown_key_whatever_it_holds(secret: str) -> None:
    assert refusal(f"Bearer {secret}") == "invalid_api_key"


def test_it_rejects_a_revoked_key_at_once(key: str) -> None:
    assert revoke_api_key(key=ApiKey.objects.get())
    assert refusal(f"Bearer {key}") == "invalid_api_key"


def test_it_rejects_an_expired_key_and_says_so(project: Project) -> None:
    _, secret = create_api_key(project=project, name="old", expires_at=timezone.now() - timedelta(seconds=1))
    assert refusal(f"Bearer {secret}") == "expired_api_key"


def test_a_digest_opens_nothing(key: str) -> None:
    assert refusal(f"Bearer {ApiKey.digest_of(key)}") == "invalid_api_key"


def test_last_use_is_noted_once_a_minute(key: str) -> None:
    get(f"Bearer {key}")
    first = ApiKey.objects.get().last_used_at
    get(f"Bearer {key}")
    assert first == ApiKey.objects.get().last_used_at
    ApiKey.objects.update(last_used_at=Now() - timedelta(minutes=2))
    get(f"Bearer {key}")
    assert timezone.now() - ApiKey.objects.get().last_used_at < timedelta(seconds=30)  # type: ignore[operator]


def test_it_costs_one_query(key: str) -> None:
    get(f"Bearer {key}")
    with CaptureQueriesContext(connection) as queries:
        get(f"Bearer {key}")
    assert len([query for query in queries if "accounts_apikey" in query["sql"]]) == 1


@pytest.mark.django_db(transaction=True)
def test_it_survives_a_read_only_database(key: str) -> None:
    """While PostgreSQL fails over reads go on, though the key's use cannot be noted."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        assert get(f"Bearer {key}").status_code == 200
        assert ApiKey.objects.get().last_used_at is None
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")


def test_scopes_can_be_fewer(project: Project) -> None:
    _, secret = create_api_key(project=project, name="reader", scopes=[Scope.MODELS_READ])
    assert get(f"Bearer {secret}").status_code == 200
