"""`Idempotency-Key`: a request that a client may send twice has one effect and one answer, for a day.

The key is written in the transaction of the work itself. So a server killed midway leaves neither, and a second
request that comes while the first runs is told so by an advisory lock that dies with its transaction.
"""

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.errors import ApiError
from apps.core.models import IdempotencyKey

KEPT = timedelta(hours=24)
SANE = re.compile(r"[\x21-\x7e]{1,255}")


def once(
    request: Request, *, owner: str, fingerprint: str, run: Callable[[], dict[str, Any]], key: str | None = None
) -> Response:
    """The answer to a request: `run`'s, or the stored one where its Idempotency-Key was used before.

    `owner` tells the keys of different tenants apart; `fingerprint` stands for the request's content. `key` is one that
    came in the body, where a route has such a field. What `run` raises is not stored, so that the client can correct it
    and use the key again. Raises `ApiError` 409 for a key with other content (do not retry) and for one whose first
    request still runs (retry later).
    """
    key = _key(request.headers.get("Idempotency-Key"), key)
    if key is None:
        return Response(run())
    digest = hashlib.sha256(fingerprint.encode("utf-8", "surrogatepass")).hexdigest()
    with transaction.atomic():
        return Response(_once(f"{owner} {request.method} {request.path}"[:200], key, digest, run))


def _key(header: str | None, body: str | None) -> str | None:
    if header is not None and body not in (None, header):
        message = "The header Idempotency-Key and idempotency_key in the body differ. Send one of them."
        raise ApiError(400, message, "invalid_value", "idempotency_key")
    key = header if body is None else body
    if key is not None and not SANE.fullmatch(key):
        raise ApiError(
            400, "Idempotency-Key must be 1 to 255 printable ASCII characters, without spaces.", "invalid_value"
        )
    return key


def _once(scope: str, key: str, digest: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not _lock(f"{scope} {key}"):
        raise ApiError(
            409,
            "A request with this Idempotency-Key is still running.",
            "request_in_progress",
            headers={"Retry-After": "1"},
        )
    IdempotencyKey.objects.filter(scope=scope, created_at__lt=Now() - KEPT).delete()
    stored = IdempotencyKey.objects.filter(scope=scope, key=key).first()
    if stored is None:
        body = run()
        IdempotencyKey.objects.create(scope=scope, key=key, fingerprint=digest, status=200, body=body)
        return body
    if stored.fingerprint != digest:
        raise ApiError(
            409, "This Idempotency-Key was used for a different request. Use a new key.", "idempotency_key_reused",
            headers={"x-should-retry": "false"},
        )  # fmt: skip
    return dict(stored.body or {})


def _lock(name: str) -> bool:
    """Until the transaction ends; False at once when another has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
        return bool(cursor.fetchone()[0])
