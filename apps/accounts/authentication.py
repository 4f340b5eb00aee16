"""Who asks: `Authorization: Bearer sk-…`."""

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from enum import Enum

from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.accounts.models import UNEXPIRED, ApiKey
from apps.core.api.errors import ApiError

USED_RESOLUTION = timedelta(minutes=1)  # how exact `last_used_at` is


class KeyState(Enum):
    LIVE = "live"
    EXPIRED = "expired"
    UNKNOWN = "unknown, or revoked"


class ApiKeyAuthentication(BaseAuthentication):
    """`request.auth` becomes the `ApiKey`, its project with it. There is no user behind a key."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey]:
        return AnonymousUser(), find_key(request.headers.get("Authorization", ""))


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key of your project: sk-…"}


def find_key(authorization: str) -> ApiKey:
    """The live key that an Authorization header shows. Raises `ApiError` 401, with the reason."""
    return find_key_by_digest(digest_in(authorization))


def digest_in(authorization: str) -> str:
    """The digest of the secret that an Authorization header shows. Raises `ApiError` 401 when it shows none."""
    scheme, _, secret = authorization.partition(" ")
    if not authorization:
        raise _refused("You didn't provide an API key. Send it as 'Authorization: Bearer sk-…'.", "missing_api_key")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _refused("The Authorization header is malformed. Send 'Authorization: Bearer sk-…'.")
    return ApiKey.digest_of(secret.strip())


def find_key_by_digest(digest: str) -> ApiKey:
    """The live key with this digest. Raises `ApiError` 401, with the reason."""
    key = ApiKey.objects.live().select_related("project").filter(digest=digest).first()
    if key is None:
        raise refused_key(states_of_keys([digest])[digest])
    _note_use(key)
    return key


def states_of_keys(digests: Collection[str]) -> dict[str, KeyState]:
    """What becomes of each key with one of these digests. One query, however many they are."""
    known = ApiKey.objects.filter(digest__in=digests, revoked_at=None).order_by()
    live = dict(known.values_list("digest", ExpressionWrapper(UNEXPIRED, BooleanField())))
    states = {True: KeyState.LIVE, False: KeyState.EXPIRED, None: KeyState.UNKNOWN}
    return {digest: states[live.get(digest)] for digest in digests}


def refused_key(state: KeyState) -> ApiError:
    """The answer to who shows a key that is not live."""
    if state is KeyState.EXPIRED:
        return _refused("This API key has expired. Make a new one.", "expired_api_key")
    return _refused("Incorrect API key provided. It is unknown here, or it was revoked.")


def _note_use(key: ApiKey) -> None:
    if key.last_used_at and timezone.now() - key.last_used_at < USED_RESOLUTION:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - USED_RESOLUTION)
    with suppress(DatabaseError):  # a read-only database still answers reads
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=Now())


def _refused(message: str, code: str = "invalid_api_key") -> ApiError:
    return ApiError(401, message, code, headers={"WWW-Authenticate": "Bearer"})
