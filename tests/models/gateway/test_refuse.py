"""What the gateway refuses by itself, in OpenAI's envelope."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from apps.accounts.models import ApiKey, Project, Scope
from apps.accounts.services import create_api_key, create_project, revoke_api_key
from apps.models.gateway import callers
from apps.models.models import Model
from tests.batches.lender import Lender
from tests.conftest import Tenant
from tests.models.gateway.cast import CHAT, Asking, Response, chat, in_database

TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "invalid_request_error", 415: "invalid_request_error", 500: "server_error",
}  # fmt: skip


def refused(answer: Response, status: int, code: str | None) -> bool:
    """Whether it is that error, and looks as every error of the API does."""
    error = answer.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return (answer.status, error["code"], error["type"]) == (status, code, TYPES[status])


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "sk-abc"])
async def test_it_rejects_a_malformed_key(asking: Asking, header: str) -> None:
    answer = await asking.post(chat("x"), authorization=header)
    assert refused(answer, 401, "invalid_api_key" if header else "missing_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_it_rejects_an_unknown_key(asking: Asking) -> None:
    asking.key = "sk-unknown"
    assert refused(await asking.post(chat("x")), 401, "invalid_api_key")


async def test_it_rejects_an_expired_key(asking: Asking, project: Project) -> None:
    past = timezone.now() - timedelta(seconds=1)
    _, asking.key = await in_database(create_api_key, project=project, name="old", expires_at=past)
    assert refused(await asking.post(chat("x")), 401, "expired_api_key")


async def test_it_rejects_a_key_without_the_scope(asking: Asking, project: Project, served: Model) -> None:
    others = set(Scope.values) - {Scope.MODELS_USE}
    _, asking.key = await in_database(create_api_key, project=project, name="others", scopes=others)
    answer = await asking.post(chat("x"))
    assert refused(answer, 403, "missing_scope")
    assert Scope.MODELS_USE in answer.json["error"]["message"]


async def test_it_rejects_a_key_that_was_revoked_meanwhile(
    asking: Asking, owner: Tenant, served: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callers.FRESH_SECONDS < 5
    monkeypatch.setattr(callers, "FRESH_SECONDS", 0.4)
    assert (await asking.post(chat("x"))).status == 200
    await in_database(lambda: revoke_api_key(key=ApiKey.objects.get()))
    began = timezone.now()
    while (await asking.post(chat("x"))).status == 200:
        assert timezone.now() - began < timedelta(seconds=1)
    assert refused(await asking.post(chat("x")), 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b'{"a":' * 100_000, "invalid_json"),
        (b"[]", "invalid_request"),
        (b"null", "invalid_request"),
        (b"{}", "missing_required_parameter"),
        (b'{"model": 3}', "invalid_request"),
        (b'{"model": ""}', "missing_required_parameter"),
        (chat("x", n=129), "invalid_request"),
        (chat("x", n="129"), "invalid_request"),
        (chat("x", top_kk=1), "unknown_parameter"),
        (chat("x", priority=-1), "invalid_request"),
        (chat("x", structured_outputs={"grammar": "x" * 70_000}), "invalid_request"),
    ],
)
async def test_it_rejects_bad_bodies(asking: Asking, served: Model, lender: Lender, body: Any, code: str) -> None:
    assert refused(await asking.post(body), 400, code)
    assert lender.called() == []


async def test_it_names_the_parameter(asking: Asking) -> None:
    assert (await asking.post(chat("x", n=129))).json["error"]["param"] == "n"


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_it_rejects_other_media_types(asking: Asking, media_type: str) -> None:
    assert refused(await asking.post(chat("x"), content_type=media_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("declared", [{"content_length": str(10**9)}, {}])
async def test_it_rejects_large_bodies(asking: Asking, monkeypatch: pytest.MonkeyPatch, declared: Any) -> None:
    monkeypatch.setattr(settings, "INTERACTIVE_MAX_BYTES", 1_000)
    assert refused(await asking.post(chat("x" * 2_000), **declared), 413, "request_too_large")


@pytest.mark.parametrize("name", ["none", "a/b", "x" * 5_000, "é"])
async def test_it_rejects_unknown_models(asking: Asking, name: str) -> None:
    answer = await asking.post(chat("x") | {"model": name})
    assert refused(answer, 404, "model_not_found")
    assert name in answer.json["error"]["message"]


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
async def test_it_rejects_names_that_cannot_be(asking: Asking, name: str) -> None:
    answer = await asking.post(chat("x") | {"model": name})
    assert answer.status == 400
    assert answer.json["error"]["param"] == "model"


async def test_a_stranger_s_model_does_not_exist(asking: Asking, served: Model) -> None:
    theirs = await in_database(create_project, name="theirs")
    await in_database(lambda: Model.objects.update(project=theirs))
    assert refused(await asking.post(chat("x")), 404, "model_not_found")


async def test_a_model_that_is_not_ready_does_not_exist(asking: Asking, served: Model) -> None:
    await in_database(lambda: Model.objects.update(ready=False))
    assert refused(await asking.post(chat("x")), 404, "model_not_found")


async def test_it_rejects_models_that_are_not_on_the_key_s_list(asking: Asking, owner: Tenant, served: Model) -> None:
    await in_database(lambda: ApiKey.objects.update(allowed_models=["other"]))
    assert refused(await asking.post(chat("x")), 404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "runner"), [("/v1/embeddings", "generate"), (CHAT, "pooling"), ("/v1/responses", "pooling")]
)
async def test_it_rejects_the_wrong_endpoint(asking: Asking, served: Model, path: str, runner: str) -> None:
    await in_database(lambda: Model.objects.update(runner=runner))
    answer = await asking.post({"model": "test-model"}, path)
    assert refused(answer, 400, "unsupported_endpoint")
    assert path in answer.json["error"]["message"]


async def test_it_survives_a_bug(asking: Asking, served: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is logged, and kept from the client."""
    monkeypatch.setattr("apps.models.gateway.exchange.TRIES", None)
    assert refused(await asking.post(chat("!die")), 500, None)
