"""Who works on an example now. A lock is a courtesy of two minutes: it expires by itself, and the next one takes it.

Nobody has to hold a lock in order to change something; what somebody else holds cannot be changed. Where a dataset
wants several reviewers (`Dataset.overlap` above 1) they are meant to work on the same examples, so a lock only forbids
the others what all of them share: the star under the policy "shared", tags, and rejecting. Ratings, preferences, notes,
edits, "done" and a star of one's own are rows of their own reviewer, which nobody else can lose.
"""

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.core.errors import Conflict
from apps.datasets.models import Example, Lock

SECONDS = 120

_TAKE = """
INSERT INTO datasets_lock AS held (example_id, reviewer_id, expires_at)
VALUES (%(example)s, %(reviewer)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (example_id) DO UPDATE SET reviewer_id = excluded.reviewer_id, expires_at = excluded.expires_at
WHERE held.reviewer_id = excluded.reviewer_id OR held.expires_at <= clock_timestamp()
RETURNING id, example_id, reviewer_id, expires_at
"""


def take(*, example: Example, reviewer: User) -> Lock:
    """The example is the reviewer's for SECONDS from now; taking it again renews that.

    One statement, so that of two who come at once one wins. Raises `Conflict`, which names who has it.
    """
    values = {"example": example.pk, "reviewer": reviewer.pk, "seconds": SECONDS}
    found = list(Lock.objects.raw(_TAKE, values))
    if not found:
        raise taken(holder(example=example))
    return found[0]


def release(*, example: Example, reviewer: User) -> bool:
    """False when the reviewer did not have it any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM datasets_lock WHERE example_id = %s AND reviewer_id = %s AND expires_at > clock_timestamp()",
            [example.pk, reviewer.pk],
        )
        return bool(cursor.rowcount)


def holder(*, example: Example) -> User | None:
    """Who has it now."""
    lock = live().filter(example=example).select_related("reviewer").first()
    return lock.reviewer if lock else None


def live() -> QuerySet[Lock]:
    """By the database's clock."""
    return Lock.objects.filter(expires_at__gt=Now())


def taken(by: User | None) -> Conflict:
    name = by.username if by else "Somebody else"
    return Conflict(f"{name} works on this example now. Take another, or come back in two minutes.", code="locked")
