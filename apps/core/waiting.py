"""Why something that is tried again has not ended: a sentence for its page, its events and its commands."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from apps.core.attempts import DIED
from apps.core.models import Attempt

Snapshot = dict[str, Any]


def with_reason(snapshot: Snapshot, *keys: str) -> Snapshot:
    """The snapshot of something that is tried under these keys, with the reason where it has no `message`."""
    (told,) = with_reasons([(snapshot, keys)])
    return told


def with_reasons(snapshots: Sequence[tuple[Snapshot, Iterable[str]]]) -> list[Snapshot]:
    """The same of several, in one query."""
    wanted = [() if snapshot["final"] or snapshot.get("message") else tuple(keys) for snapshot, keys in snapshots]
    flat = [key for keys in wanted for key in keys]
    found = {row.key: row for row in troubled(Attempt.objects.filter(key__in=flat))} if flat else {}
    return [
        {"message": "", **snapshot, **_message([found[key] for key in keys if key in found])}
        for (snapshot, _), keys in zip(snapshots, wanted, strict=True)
    ]


def troubled(tried: QuerySet[Attempt]) -> QuerySet[Attempt]:
    """Those of which an attempt has failed, or that wait for room."""
    return tried.filter(Q(attempts__gt=1) | Q(began=False, attempts=1) | Q(attempts=0, next_at__gt=Now()))


def reason(rows: Iterable[Attempt]) -> str:
    """Of the one among these that failed most often; empty for none. It is the same until the next attempt."""
    row = max(rows, key=lambda row: row.attempts, default=None)
    if row is None:
        return ""
    then = f"It is tried again at {row.next_at:%H:%M:%S} UTC."
    if row.attempts == 0:
        return f"The disk of the server, or of its database, is full. {then}"
    failed = row.attempts - row.began
    of = f"{failed} of {settings.WORK_ATTEMPTS} attempts failed, the last one because {row.error or DIED}."
    return f"{of} Attempt {row.attempts} has begun." if row.began else f"{of} {then}"


def _message(rows: Sequence[Attempt]) -> Snapshot:
    return {"message": reason(rows)} if rows else {}
