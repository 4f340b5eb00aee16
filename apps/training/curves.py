"""Curves of what was measured: as many points as a chart can show, however many steps there are.

Each stretch of steps keeps its lowest and its highest value at the steps where they were measured, so that no peak is
lost. All of it is one query, and what comes back is bounded. What is no number (a loss that diverged) is left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from apps.training.models import TrainingJob
from apps.training.spec import REWARDS

CURVES = (
    "loss", "valid_loss", "token_accuracy", "valid_token_accuracy", "learning_rate", "grad_norm", "tokens_per_second",
    "memory_bytes",
)  # fmt: skip
REWARD_CURVES = tuple(f"{prefix}{name}" for prefix in ("", "valid_") for name in REWARDS)
"""More of a job that learns preferences or thumbs."""
STRETCHES = 300  # of a curve, two points each
SPARKS = 40  # points of a small curve

Point = tuple[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    first: int
    """The first and the last step that was measured; 0: none."""
    last: int
    width: int
    """Steps of a stretch."""
    points: dict[str, list[Point]] = field(default_factory=dict)
    """(step, value) of each of `names_of`, by step."""
    mean: list[Point] = field(default_factory=list)
    """The loss's mean in each stretch, at its last step: what a smoothed curve is made of."""


def curves_of(job: TrainingJob, *, since: int = 0, stretches: int = STRETCHES) -> Curves:
    """From the step `since` on, that one included: its evaluation may have come later than itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(step), max(step) FROM training_metric WHERE job_id = %s AND step >= %s", [job.pk, since]
        )
        first, last = cursor.fetchone() or (None, None)
        if first is None or last is None:
            return Curves(first=0, last=0, width=1)
        width = math.ceil((last - first + 1) / stretches)
        names = names_of(job)
        cursor.execute(_query(names), {"job": job.pk, "first": first, "width": width})
        return _curves(names, Curves(first=first, last=last, width=width), cursor.fetchall())


def names_of(job: TrainingJob) -> tuple[str, ...]:
    """The curves of its method, as `Metric` names them."""
    return CURVES + REWARD_CURVES if job.method in TrainingJob.HAS_REWARDS else CURVES


def sparks_of(jobs: Sequence[TrainingJob]) -> dict[int, list[Point]]:
    """The loss of each job by its key, SPARKS points of it, the last one among them. One query for all."""
    found: dict[int, list[Point]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_SPARKS, {"jobs": [job.pk for job in jobs], "most": SPARKS - 1})
        for job, step, loss in cursor.fetchall():
            found.setdefault(job, []).append((step, loss))
    return found


def _sound(name: str) -> str:
    return f"abs({name}) < 'Infinity'::float8"


def _extremes(name: str) -> str:
    """[value, step] of the lowest and of the highest of a stretch: arrays compare by their first number first."""
    pair, sound = f"ARRAY[{name}, step]::float8[]", f"FILTER (WHERE {_sound(name)})"
    return f"min({pair}) {sound}, max({pair}) {sound}"


def _query(names: Sequence[str]) -> str:
    return (
        f"SELECT max(step), avg(loss) FILTER (WHERE {_sound('loss')}), {', '.join(map(_extremes, names))}"  # noqa: S608
        " FROM training_metric WHERE job_id = %(job)s AND step >= %(first)s"
        " GROUP BY (step - %(first)s) / %(width)s ORDER BY 1"
    )


# A few look-ups in the index for each job, however many steps it has.
_MEASURED = f"SELECT step, loss FROM training_metric WHERE job_id = j.id AND {_sound('loss')}"  # noqa: S608
_SPARKS = f"""
SELECT DISTINCT j.id, m.step, m.loss
FROM training_trainingjob j
JOIN LATERAL ({_MEASURED} ORDER BY step LIMIT 1) first ON true
JOIN LATERAL ({_MEASURED} ORDER BY step DESC LIMIT 1) last ON true
CROSS JOIN generate_series(0, %(most)s) AS g
JOIN LATERAL (
    {_MEASURED} AND step >= first.step + (last.step - first.step)::bigint * g / %(most)s ORDER BY step LIMIT 1
) m ON true
WHERE j.id = ANY(%(jobs)s) ORDER BY j.id, m.step
"""  # noqa: S608 - names of columns are in it, and no values


def _curves(names: Sequence[str], curves: Curves, rows: list[tuple[Any, ...]]) -> Curves:
    curves.points.update({name: [] for name in names})
    for step, mean, *extremes in rows:
        if mean is not None:
            curves.mean.append((step, mean))
        for name, low, high in zip(names, extremes[::2], extremes[1::2], strict=True):
            if low is not None:
                curves.points[name] += sorted({(int(step), value) for value, step in (low, high)})
    return curves
