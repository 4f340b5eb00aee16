"""What reviewers' verdicts and ratings say about the columns of a run. Edits are left out: they are people's work."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count, F

from apps.datasets.models import Preference, Rating, Run, Thumb

RESAMPLES = 1_000
DRAWN = 200  # verdicts; more are not drawn one by one: their counts are close to normally distributed
SEED = 20_260_801  # the same verdicts give the same interval
Verdict = Preference.Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How `first` did against `second`, which are positions of columns; against all others where `second` is None."""

    first: int
    second: int | None
    wins: int
    losses: int
    ties: int
    neither: int  # both were bad; not part of the rate
    blind: int  # of all these verdicts
    rate: float | None  # wins and half of the ties, of wins, losses and ties
    low: float | None  # of the 95 % bootstrap interval
    high: float | None

    @property
    def verdicts(self) -> int:
        return self.wins + self.losses + self.ties + self.neither


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    column: int  # position
    count: int
    mean: float | None
    distribution: tuple[int, int, int, int, int]  # of 1 to 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbs:
    column: int  # position
    up: int
    down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRates:
    pairs: tuple[WinRate, ...]  # the lower position first
    columns: tuple[WinRate, ...]  # each against all others; the best first


def win_rates(run: Run, *, blind: bool = False) -> WinRates:
    """Of all reviewers' verdicts on two columns of the run; of the blind ones only where asked for."""
    rows = Preference.objects.filter(
        left__column__run=run, right__column__run=run, left__edit_of=None, right__edit_of=None
    ).exclude(left__column=F("right__column"))
    rows = rows.filter(blind=True) if blind else rows
    counted = rows.values_list("left__column__position", "right__column__position", "verdict", "blind")
    pairs: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for left, right, verdict, unseen, number in counted.annotate(number=Count("pk")).order_by():
        for first, second in ((left, right), (right, left)):
            name = verdict if first == left else _MIRRORED.get(verdict, verdict)
            pairs[first, second][name] += number
            pairs[first, second]["blind"] += number if unseen else 0
    return WinRates(
        pairs=tuple(_win_rate(*pair, counts) for pair, counts in sorted(pairs.items()) if pair[0] < pair[1]),
        columns=tuple(sorted(_standings(pairs), key=lambda each: (-(each.rate or 0), each.first))),
    )


_MIRRORED = {"left": "right", "right": "left"}


def _standings(pairs: Mapping[tuple[int, int], Counter[str]]) -> list[WinRate]:
    columns: dict[int, Counter[str]] = defaultdict(Counter)
    for (first, _), counts in pairs.items():
        columns[first] += counts
    return [_win_rate(first, None, counts) for first, counts in columns.items()]


def _win_rate(first: int, second: int | None, counts: Counter[str]) -> WinRate:
    wins, losses, ties = counts[Verdict.LEFT], counts[Verdict.RIGHT], counts[Verdict.TIE]
    total = wins + losses + ties
    low, high = interval(wins, losses, ties) if total else (None, None)
    return WinRate(
        first=first, second=second, wins=wins, losses=losses, ties=ties, neither=counts[Verdict.NEITHER],
        blind=counts["blind"], rate=(wins + ties / 2) / total if total else None, low=low, high=high,
    )  # fmt: skip


def interval(wins: int, losses: int, ties: int) -> tuple[float, float]:
    """Where 95 % of the rates lie that as many verdicts, drawn from these with replacement, would have given."""
    total = wins + losses + ties
    chance = random.Random(SEED)  # noqa: S311 - statistics, not secrets
    if total <= DRAWN:
        weights = (wins, ties, losses)
        rates = [sum(chance.choices((1.0, 0.5, 0.0), weights, k=total)) / total for _ in range(RESAMPLES)]
    else:
        mean = (wins + ties / 2) / total
        spread = math.sqrt(max((wins + ties / 4) / total - mean**2, 0) / total)
        rates = [min(max(chance.gauss(mean, spread), 0.0), 1.0) for _ in range(RESAMPLES)]
    rates.sort()
    return rates[round(0.025 * (RESAMPLES - 1))], rates[round(0.975 * (RESAMPLES - 1))]


def ratings(run: Run) -> tuple[Ratings, ...]:
    """Of each column, rated or not, in order."""
    rows = Rating.objects.filter(answer__column__run=run, answer__edit_of=None)
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    counted = rows.values_list("answer__column__position", "value").annotate(number=Count("pk")).order_by()
    for position, value, number in counted:
        counts[position][value] = number
    positions = run.columns.order_by("position").values_list("position", flat=True)
    return tuple(_ratings(position, counts[position]) for position in positions)


def thumbs(run: Run) -> tuple[Thumbs, ...]:
    """Of each column, with thumbs or without, in order."""
    rows = Thumb.objects.filter(answer__column__run=run, answer__edit_of=None)
    counted = rows.values_list("answer__column__position", "verdict").annotate(number=Count("pk")).order_by()
    counts = {(position, verdict): number for position, verdict, number in counted}
    positions = run.columns.order_by("position").values_list("position", flat=True)
    return tuple(Thumbs(column=at, up=counts.get((at, "up"), 0), down=counts.get((at, "down"), 0)) for at in positions)


def _ratings(position: int, counts: Counter[int]) -> Ratings:
    total = counts.total()
    mean = sum(value * number for value, number in counts.items()) / total if total else None
    one, two, three, four, five = (counts[value] for value in range(1, 6))
    return Ratings(column=position, count=total, mean=mean, distribution=(one, two, three, four, five))
