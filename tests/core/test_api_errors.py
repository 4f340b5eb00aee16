import errno
import logging
from typing import Any

import psycopg
import pytest
from django.db import OperationalError
from django.test import Client
from rest_framework import serializers
from rest_framework.test import APIClient, APIRequestFactory

from apps.core.api.errors import ApiError, as_api_error, exception_handler
from apps.core.errors import Conflict, DomainError

pytestmark = pytest.mark.django_db


def error_of(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])


def test_it_works(api: APIClient) -> None:
    response = api.get("/v1/batches/batch_none")
    assert response.status_code == 404
    assert error_of(response) == {
        "message": "No such batch: batch_none",
        "type": "not_found_error",
        "param": "id",
        "code": "batch_not_found",
    }


def test_an_unknown_route_is_an_envelope_too(client: Client) -> None:
    for method in ("get", "post", "delete", "put"):
        response = getattr(client, method)("/v1/assistants")
        assert response.status_code == 404
        assert error_of(response)["code"] == "unknown_url"


def test_it_rejects_another_method(api: APIClient) -> None:
    response = api.put("/v1/batches", {}, format="json")
    assert response.status_code == 405
    assert error_of(response)["type"] == "invalid_request_error"
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "a/b/c"]
)
def test_it_rejects_another_media_type(api: APIClient, content_type: str) -> None:
    response = api.post("/v1/batches", b"{}", content_type=content_type)
    assert response.status_code == 415
    assert "media type" in error_of(response)["message"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"\xff\xfe{\x00}\x00", b'{"a": NaN}', b"[" * 100_000, b"1" * 5_000, b"\x00"],
    ids=["cut", "empty", "UTF-16", "NaN", "deep", "long number", "NUL"],
)
def test_it_rejects_malformed_json(api: APIClient, body: bytes) -> None:
    response = api.post("/v1/batches", body, content_type="application/json")
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", ["[]", '"text"', "7", "null", "true"])
def test_it_rejects_json_that_is_no_object(api: APIClient, body: str) -> None:
    response = api.post("/v1/batches", body, content_type="application/json")
    assert response.status_code == 400


def test_the_first_bad_parameter_is_named() -> None:
    class Inner(serializers.Serializer[Any]):
        seconds = serializers.IntegerField(max_value=5)

    class Form(serializers.Serializer[Any]):
        inner = Inner()
        name = serializers.CharField()

    form = Form(data={"inner": {"seconds": 6}})
    with pytest.raises(serializers.ValidationError) as caught:
        form.is_valid(raise_exception=True)
    error = as_api_error(caught.value)
    assert (error.status_code, error.param, error.code) == (400, "inner.seconds", "invalid_value")


@pytest.mark.parametrize(
    ("raised", "status", "kind"),
    [
        (DomainError("No.", param="x"), 400, "invalid_request_error"),
        (Conflict("Not now."), 409, "invalid_request_error"),
        (OperationalError("gone"), 503, "server_error"),
        (psycopg.OperationalError("no connection"), 503, "server_error"),
        (OSError(errno.ENOSPC, "full"), 507, "server_error"),
        (OSError(errno.EIO, "broken"), 500, "server_error"),
        (ZeroDivisionError(), 500, "server_error"),
        (ApiError(429, "Slower."), 429, "rate_limit_error"),
    ],
)
def test_each_error_has_its_status(raised: Exception, status: int, kind: str) -> None:
    error = as_api_error(raised)
    assert (error.status_code, error.type) == (status, kind)


def test_a_database_that_is_away_asks_for_another_try() -> None:
    assert "Retry-After" in as_api_error(OperationalError()).headers


def test_it_survives_an_unforeseen_exception(caplog: pytest.LogCaptureFixture) -> None:
    request = APIRequestFactory().get("/v1/x")
    request.request_id = "req_1"  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR):
        response = exception_handler(RuntimeError("the secret detail"), {"request": request})
    assert response.status_code == 500
    assert "secret" not in str(response.data)
    assert "req_1" in caplog.text
    assert "secret" in caplog.text
