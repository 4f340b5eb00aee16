"""Frozen divisions of a version into train, validation and test, by hash: the same seed gives the same parts.

Exact duplicates go together, so that nothing of the training leaks into the test. Who is where depends on what the
examples say, not on the order of rows: the same file in another order is divided in the same way.
"""

from collections.abc import Mapping

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Member, Split, Version

SHARES = {"train": 80, "validation": 10, "test": 10}
MAX_SEED = 2**63 - 1

# A group of duplicates is where its middle falls, in the order of the groups' hashes.
_DIVIDE = """
WITH groups AS (
    SELECT fingerprint, count(*) AS size, md5(%(seed)s || ':' || fingerprint::text) AS place
    FROM datasets_example WHERE dataset_id = %(dataset)s AND added_in <= %(version)s
        AND (removed_in IS NULL OR removed_in > %(version)s)
    GROUP BY fingerprint
), placed AS (
    SELECT fingerprint, (sum(size) OVER (ORDER BY place, fingerprint) - size / 2.0) * 100 / sum(size) OVER () AS middle
    FROM groups
)
INSERT INTO datasets_member (split_id, example_id, part)
SELECT %(split)s, e.id, CASE WHEN p.middle < %(train)s THEN 'train' WHEN p.middle < %(train)s + %(validation)s
    THEN 'validation' ELSE 'test' END
FROM datasets_example e JOIN placed p USING (fingerprint)
WHERE e.dataset_id = %(dataset)s AND e.added_in <= %(version)s
    AND (e.removed_in IS NULL OR e.removed_in > %(version)s)
"""
_COUNT = "SELECT part, count(*) FROM datasets_member WHERE split_id = %s GROUP BY part"


def make(*, version: Version, name: str, shares: Mapping[str, int], seed: int, created_by: User | None) -> Split:
    """Raises `DomainError`, and `Conflict` for a name that the version's splits have already."""
    shares = _checked(shares)
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise DomainError("A split's name has 1 to 100 printable characters.", param="name")
    if not 0 <= seed <= MAX_SEED:
        raise DomainError(f"A seed is a number from 0 to {MAX_SEED}.", param="seed")
    try:
        with transaction.atomic():
            split = Split.objects.create(
                version=version, name=name.strip(), seed=seed, shares=shares, created_by=created_by
            )
            _divide(split, shares)
    except IntegrityError as error:
        message = f"This version has a split {name.strip()!r} already: choose another name."
        raise Conflict(message, param="name") from error
    split.refresh_from_db()
    return split


def _checked(shares: Mapping[str, int]) -> dict[str, int]:
    """A share for each part. Raises `DomainError`."""
    unknown = sorted(set(shares) - set(Member.Part.values))
    if unknown:
        message = f"There is no part {unknown[0][:40]!r}; the parts are train, validation, test."
        raise DomainError(message, param="shares")
    whole = {part: shares.get(part, 0) for part in Member.Part.values}
    if any(type(share) is not int or not 0 <= share <= 100 for share in whole.values()) or sum(whole.values()) != 100:
        message = "Shares are whole numbers of per cent that add up to 100, as 80, 10 and 10 do."
        raise DomainError(message, param="shares")
    return whole


def _divide(split: Split, shares: Mapping[str, int]) -> None:
    version = split.version
    values: dict[str, int | str] = {
        "split": split.pk,
        "dataset": version.dataset_id,
        "version": version.number,
        "seed": str(split.seed),
    }
    with connection.cursor() as cursor:
        cursor.execute(_DIVIDE, {**values, "train": shares["train"], "validation": shares["validation"]})
        cursor.execute(_COUNT, [split.pk])
        counts = dict(cursor.fetchall())
    Split.objects.filter(pk=split.pk).update(counts={part: counts.get(part, 0) for part in Member.Part.values})
