"""Which two answers of an example a reviewer compares blind, and on which side each stands.

Both follow from the reviewer and the example by a secret hash: a page that is loaded again shows the same, nobody can
tell the sides from the numbers, and over many examples every pair of columns gets its turns on both sides.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from django.contrib.auth.models import User
from django.utils.crypto import constant_time_compare, salted_hmac

from apps.core.errors import Conflict
from apps.datasets.reviews.rows import Row, Sample

MIRRORED = {"left": "right", "right": "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers of different columns, as the reviewer sees them."""

    left: Sample
    right: Sample
    columns: tuple[int, int]  # positions
    mark: str
    """Says which two texts were seen, without saying whose they are."""

    def verdict(self, row: Row) -> str:
        """The reviewer's, as seen on these sides; empty when there is none."""
        ids = _ids(self.left, self.right)
        found = next((each.verdict for each in row.preferences if (each.left, each.right) == ids), "")
        return found if self.left.answer == ids[0] else MIRRORED.get(found, found)


def pair_of(row: Row, reviewer: User) -> Pair | None:
    """None where fewer than two columns have answered.

    Pairs that say the same, and those that the reviewer judged with open eyes, are left out if others are there.
    """
    answered = [(cell.column, cell.samples[0]) for cell in row.cells if cell.samples and not cell.samples[0].error]
    pairs = list(combinations(answered, 2))
    pairs = [pair for pair in pairs if _told(pair[0][1]) != _told(pair[1][1])] or pairs
    known = {(each.left, each.right) for each in row.preferences if not each.blind}
    pairs = [pair for pair in pairs if _ids(pair[0][1], pair[1][1]) not in known] or pairs
    if not pairs:
        return None
    chance = int.from_bytes(salted_hmac("datasets.pairs", f"{reviewer.pk}:{row.example}", algorithm="sha256").digest())
    chance, side = divmod(chance, 2)
    left, right = pairs[chance % len(pairs)][:: 1 if side else -1]
    return Pair(left=left[1], right=right[1], columns=(left[0], right[0]), mark=_mark(left[1], right[1]))


def check_mark(pair: Pair | None, mark: str) -> Pair:
    """The pair, if it still is what `mark` was made of. Raises `Conflict`: nobody votes on what they did not see."""
    if pair is None or not constant_time_compare(pair.mark, mark):
        raise Conflict("These answers have changed since you saw them. Load the page again, and vote on what it shows.")
    return pair


def _ids(one: Sample, other: Sample) -> tuple[int, int]:
    """In the order in which preferences keep them."""
    return min(one.answer, other.answer), max(one.answer, other.answer)


def _told(side: Sample) -> tuple[Any, ...]:
    """What a reviewer sees of it."""
    return side.text.text, [call.function for call in side.calls]


def _mark(left: Sample, right: Sample) -> str:
    sides = [f"{side.answer}:{side.text.characters}:{_told(side)}" for side in (left, right)]
    seen = "\0".join(sides)
    return salted_hmac("datasets.pairs.mark", seen, algorithm="sha256").hexdigest()[:32]
