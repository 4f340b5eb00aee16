"""How far reviewers agree, with each other and with a judge; each number with a sentence that says what it means."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db.models import Avg
from django.db.models.functions import Round

from apps.core.errors import DomainError
from apps.datasets.models import Dataset, Judge, Judgement, Preference, Rating, Run, Star, Thumb

LABELS = 40_000  # the latest; more take NLTK too long
SECONDS = 60  # for all coefficients of a run

Label = tuple[str, int | str, int | str]  # reviewer, what it is about, what they decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str  # "cohen", "fleiss", "alpha"
    reviewers: tuple[str, ...]
    items: int  # that it is computed from
    value: float | None  # at most 1, 0 is chance; None where too little was decided by several
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    about: str  # "ratings", "preferences", "stars", "thumbs"
    labels: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAgreement:
    """A judge's scores against the mean of people's ratings, rounded, of each answer that has both."""

    answers: int
    exact: float | None  # the share of answers where both say the same
    within_one: float | None
    alpha: Figure
    confusion: tuple[tuple[int, ...], ...]  # a row for each rating 1 to 5, in it a count for each score 1 to 5
    sentence: str


def agreement(run: Run) -> tuple[Agreement, ...]:
    """On ratings of models' answers, on preferences, on stars, on thumbs. Raises `DomainError` if it takes too long."""
    asked = {"ratings": (_ratings(run), "interval"), "preferences": (_preferences(run), "nominal")}
    if run.dataset.star_policy == Dataset.StarPolicy.REVIEWER:  # a shared star has nobody to agree with
        asked["stars"] = (_stars(run), "nominal")
    asked["thumbs"] = (_thumbs(run), "nominal")
    found = _coefficients([{"labels": labels, "distance": distance} for labels, distance in asked.values()])
    return tuple(
        Agreement(about=about, labels=len(labels), figures=_figures(labels, values, about))
        for (about, (labels, _)), values in zip(asked.items(), found, strict=True)
    )


def judge_agreement(judge: Judge) -> JudgeAgreement:
    """Raises `DomainError` if it takes too long."""
    counts = _confusion(judge)
    total = sum(map(sum, counts))
    same = sum(counts[n][n] for n in range(5))
    near = sum(counts[rating][score] for rating in range(5) for score in range(5) if abs(rating - score) <= 1)
    labels = _expanded(counts, total)
    (values,) = _coefficients([{"labels": labels, "distance": "interval"}])
    alpha = _figure("alpha", ("judge", "people"), values["alpha"], "answers")
    sentence = "No answer has both a score and a rating yet."
    if total:
        sentence = (
            f"Of {total:,} answers with both, the judge says the same as people for {same / total:.0%}, "
            f"and is at most one off for {near / total:.0%}."
        )
    return JudgeAgreement(
        answers=total, exact=same / total if total else None, within_one=near / total if total else None, alpha=alpha,
        confusion=tuple(map(tuple, counts)), sentence=sentence,
    )  # fmt: skip


def _confusion(judge: Judge) -> list[list[int]]:
    rated = Judgement.objects.filter(judge=judge, score__isnull=False, answer__ratings__isnull=False).order_by()
    rows = rated.values("answer", "score").annotate(rating=Round(Avg("answer__ratings__value")))
    counts = [[0] * 5 for _ in range(5)]
    for score, rating in rows.values_list("score", "rating").iterator():
        if score:  # asked for above
            counts[int(rating) - 1][score - 1] += 1
    return counts


def _expanded(counts: list[list[int]], total: int) -> list[Label]:
    """As labels; a sample in the same proportions where there are many."""
    share = min(1.0, LABELS / 2 / total) if total else 1.0
    labels: list[Label] = []
    for rating, row in enumerate(counts, start=1):
        for score, count in enumerate(row, start=1):
            for number in range(round(count * share)):
                item = f"{rating} {score} {number}"
                labels += [("people", item, rating), ("judge", item, score)]
    return labels


def _ratings(run: Run) -> list[Label]:
    rows = Rating.objects.filter(answer__column__run=run, answer__edit_of=None).order_by("-pk")
    return _labels(rows.values_list("reviewer__username", "answer", "value")[:LABELS])


def _thumbs(run: Run) -> list[Label]:
    rows = Thumb.objects.filter(answer__column__run=run, answer__edit_of=None).order_by("-pk")
    return _labels(rows.values_list("reviewer__username", "answer", "verdict")[:LABELS])


def _preferences(run: Run) -> list[Label]:
    rows = Preference.objects.filter(left__column__run=run, right__column__run=run).order_by("-pk")
    pairs = rows.values_list("reviewer__username", "left", "right", "verdict")[:LABELS]
    return [(name, f"{left} {right}", verdict) for name, left, right, verdict in pairs]


def _stars(run: Run) -> list[Label]:
    """Which column each reviewer chose; an edit counts for the column whose answer it is of."""
    rows = Star.objects.filter(answer__column__run=run, shared=False).order_by("-pk")
    return _labels(rows.values_list("reviewer__username", "example", "answer__column")[:LABELS])


def _labels(rows: Iterable[tuple[Any, ...]]) -> list[Label]:
    return [(coder, item, label) for coder, item, label in rows]


def _coefficients(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_compute(json.dumps(tasks)))
    return found


@lru_cache(maxsize=16)
def _compute(tasks: str) -> str:
    """By a child process, which alone loads NLTK; labels that did not change are not computed again."""
    command = [sys.executable, "-m", "apps.datasets.reviews.coefficients"]
    try:
        child = subprocess.run(
            command, input=tasks, capture_output=True, text=True, cwd=settings.BASE_DIR, timeout=SECONDS, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise DomainError("The agreement takes too long to compute. Try again when the machine is idle.") from error
    return child.stdout


def _figures(labels: Sequence[Label], values: dict[str, Any], about: str) -> tuple[Figure, ...]:
    everybody = tuple(sorted({label[0] for label in labels}))
    pairs = [_figure("cohen", (first, second), rest, about) for first, second, *rest in values["cohen"]]
    fleiss = [_figure("fleiss", everybody, values["fleiss"], about)] if len(everybody) > 2 else []
    return (*pairs, *fleiss, _figure("alpha", everybody, values["alpha"], about))


TITLES = {"cohen": "Cohen's kappa", "fleiss": "Fleiss' kappa", "alpha": "Krippendorff's alpha"}


def _figure(name: str, reviewers: tuple[str, ...], found: Sequence[Any], about: str) -> Figure:
    items, value = found
    who = " and ".join(reviewers) if len(reviewers) == 2 else f"{len(reviewers)} reviewers"
    if len(reviewers) < 2:
        sentence = f"{TITLES[name]} needs two reviewers who decided about the same {about}."
    elif value is None:
        sentence = f"{TITLES[name]} cannot be computed: {who} have decided about too few of the same {about}."
    else:
        meaning = _alpha_means(value) if name == "alpha" else _kappa_means(value)
        sentence = f"{TITLES[name]} of {who} is {value:.2f}, over {items:,} {about} that they share: {meaning}."
    return Figure(name=name, reviewers=reviewers, items=items, value=value, sentence=sentence)


def _kappa_means(value: float) -> str:
    """Landis and Koch, 1977."""
    bounds = [(0.0, "no more than by chance"), (0.2, "slight agreement"), (0.4, "fair agreement"),
              (0.6, "moderate agreement"), (0.8, "substantial agreement")]  # fmt: skip
    return next((meaning for bound, meaning in bounds if value <= bound), "almost perfect agreement")


def _alpha_means(value: float) -> str:
    """Krippendorff, 2004."""
    if value >= 0.8:
        return "reliable"
    return (
        "good enough for tentative conclusions" if value >= 0.667 else "too low to rely on: agree on guidelines first"
    )
