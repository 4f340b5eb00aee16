"""Whether keys are live, for crowds that ask."""

import asyncio
from collections.abc import Collection
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.accounts.authentication import KeyState, states_of_keys
from apps.accounts.models import ApiKey
from apps.core.api.errors import ApiError
from apps.models.gateway import keys
from apps.models.gateway.keys import Keys

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The digests of each query."""
    asked: list[list[str]] = []

    def counted(digests: Collection[str]) -> dict[str, KeyState]:
        asked.append(list(digests))
        return states_of_keys(digests)

    monkeypatch.setattr(keys, "states_of_keys", counted)
    return asked


async def refused(known: Keys, digest: str) -> str | None:
    """The code with which it is refused, if it is."""
    (answer,) = await asyncio.gather(known.check(digest), return_exceptions=True)
    return answer.code if isinstance(answer, ApiError) and answer.status_code == 401 else None


async def test_it_works(key: str, asked: list[list[str]]) -> None:
    known = Keys()
    assert [await refused(known, ApiKey.digest_of(key)) for _ in range(3)] == [None] * 3
    assert len(asked) == 1


async def test_it_rejects_a_wrong_key_again_without_a_query(asked: list[list[str]]) -> None:
    known = Keys()
    assert [await refused(known, "wrong") for _ in range(3)] == ["invalid_api_key"] * 3
    assert asked == [["wrong"]]


async def test_it_says_that_a_key_has_expired(key: str) -> None:
    await ApiKey.objects.aupdate(expires_at=timezone.now() - timedelta(seconds=1))
    assert await refused(Keys(), ApiKey.digest_of(key)) == "expired_api_key"


async def test_a_revoked_key_is_unknown(key: str) -> None:
    await ApiKey.objects.aupdate(revoked_at=timezone.now(), expires_at=timezone.now() - timedelta(seconds=1))
    assert await refused(Keys(), ApiKey.digest_of(key)) == "invalid_api_key"


async def test_all_who_ask_share_a_query(key: str, asked: list[list[str]]) -> None:
    known, digests = Keys(), [f"wrong-{number}" for number in range(500)]
    digests.append(ApiKey.digest_of(key))
    found = await asyncio.gather(*(refused(known, digest) for digest in digests))
    assert found == ["invalid_api_key"] * 500 + [None]
    assert len(asked) <= 2


async def test_a_flood_of_wrong_keys_makes_no_live_one_unknown(
    key: str, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "KEYS", 10)
    known = Keys()
    await known.check(ApiKey.digest_of(key))
    await asyncio.gather(*(refused(known, f"wrong-{number}") for number in range(100)))
    asked.clear()
    assert [await refused(known, ApiKey.digest_of(key)), asked] == [None, []]


async def test_a_key_is_asked_for_again_after_seconds(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REFUSED_SECONDS", 0.0)
    digest = ApiKey.digest_of(key)
    await ApiKey.objects.aupdate(expires_at=timezone.now() - timedelta(seconds=1))
    known = Keys()
    assert await refused(known, digest) == "expired_api_key"
    await ApiKey.objects.aupdate(expires_at=None)
    assert await refused(known, digest) is None


async def test_it_survives_a_database_that_is_away(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(digests: Collection[str]) -> dict[str, KeyState]:
        raise OperationalError("gone")

    monkeypatch.setattr(keys, "states_of_keys", away)
    known = Keys()
    answers = await asyncio.gather(*(known.check(f"{number}") for number in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OperationalError] * 5
    monkeypatch.setattr(keys, "states_of_keys", states_of_keys)
    assert await refused(known, ApiKey.digest_of(key)) is None
