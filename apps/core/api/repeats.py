"""A request that a stock client sends again by itself, because its answer was lost, has one effect.

The clients that OpenAI generates count: `x-stainless-retry-count` is 0 on the first try, and 1 or more on what they
send again. So the answer to a first try is kept for some minutes, in the transaction of its work, and a later try with
the same content by the same API key gets it. Two first tries are two requests, however equal they are.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import connection, transaction
from django.db.models.functions import Now
from django.http import QueryDict
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.errors import ApiError
from apps.core.api.parsers import sha256_of
from apps.core.models import IdempotencyKey

SCOPE = " tries"  # no Idempotency-Key's scope ends so: those end in a path
HEADER = "X-Stainless-Retry-Count"
KEPT = timedelta(minutes=15)  # the clients wait ten for an answer, and up to two before they try again
WORK_LIMIT = "5min"  # without a statement: the lock is nobody else's, and an upload's bytes may have to go far


def answer_once(request: Request, *, owner: str, run: Callable[[], Response]) -> Response:
    """`run`'s answer, or to a later try the one that an earlier try got. `owner` tells API keys apart.

    What `run` raises is not kept: the next try runs again. Raises `ApiError` 409 while an earlier try still runs.
    """
    count = request.headers.get(HEADER, "")
    if not (count.isascii() and count.isdecimal()) or "Idempotency-Key" in request.headers:
        return run()
    digest = _digest(request)
    scope = f"{owner}{SCOPE}"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{WORK_LIMIT}'")
        if int(count[:9]):
            _lock_or_refuse(cursor, f"{scope} {digest}")
            kept = IdempotencyKey.objects.filter(scope=scope, key=digest, created_at__gt=Now() - KEPT).first()
            if kept is not None:
                return Response(kept.body, status=kept.status)
        else:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))", (f"{scope} {digest}",))
        response = run()
        _keep(scope, digest, response)
        return response


def _lock_or_refuse(cursor: Any, name: str) -> None:
    cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
    if not cursor.fetchone()[0]:
        raise ApiError(
            409, "The first try of this request is still running.", "request_in_progress", headers={"Retry-After": "2"}
        )


def _keep(scope: str, digest: str, response: Response) -> None:
    """In place of what an equal request got before."""
    body = json.loads(JSONRenderer().render(response.data))
    kept = IdempotencyKey(scope=scope, key=digest, fingerprint=digest, status=response.status_code, body=body)
    IdempotencyKey.objects.bulk_create(
        [kept],
        update_conflicts=True,
        update_fields=["status", "body", "created_at"],
        unique_fields=["scope", "key"],
    )


def _digest(request: Request) -> str:
    """Of what is asked for. A form's boundary, which differs from try to try, is no part of it."""
    parts = [str(request.method), request.get_full_path(), *_content(request.data)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _content(data: Any) -> Iterator[str]:
    if not isinstance(data, QueryDict):
        yield json.dumps(data, sort_keys=True)
        return
    for name, values in sorted(data.lists()):
        for value in values:
            named = [value.name, sha256_of(value)] if isinstance(value, UploadedFile) else [value]
            yield json.dumps([name, *named])
