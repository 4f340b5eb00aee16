"""What apps above say about models and their files: which are theirs for now, and which adapters are on their way.

They register a function each, under a name of theirs. This app knows none of them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from django.db.models import QuerySet

from apps.models.models import Model

Unready = Callable[[], QuerySet[Model]]
"""Models that are not ready yet, and that somebody goes on with: all others that no install tries are forgotten."""
WhyKept = Callable[[Path], str]
"""Why a folder below MODELS_DIR that no model uses stays, as a sentence; empty when it may go."""
Ranks = Callable[[Model], Iterable[int]]
"""Ranks of the adapters that will come for a model, for which its next engine keeps room."""

_unready: dict[str, Unready] = {}
_kept: dict[str, WhyKept] = {}
_ranks: dict[str, Ranks] = {}


def register(name: str, *, unready: Unready, why_kept: WhyKept, ranks: Ranks) -> None:
    _unready[name], _kept[name], _ranks[name] = unready, why_kept, ranks


def claimed() -> set[int]:
    """The models that are not ready, and are somebody's."""
    return {pk for models in _unready.values() for pk in models().values_list("pk", flat=True)}


def why_kept(folder: Path) -> str:
    return next(filter(None, (why(folder) for why in _kept.values())), "")


def coming_ranks(model: Model) -> tuple[int, ...]:
    return tuple(rank for ranks in _ranks.values() for rank in ranks(model))
