"""Whether a trained model does what it should: the same prompts to it and to its base model, at temperature 0.

Trained, it answers some prompt differently than the base (`apps.models.engines.comparison`). Merged, it answers as the
adapter does. Pure.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from apps.models.engines.comparison import differs

AGREES = 0.8  # the least mean similarity of a merged model's answers and its adapter's


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Similarities are means from 0 to 1; those of a merged model and the base are of the prompts that changed."""

    passed: bool
    sentence: str
    asked: int
    """Prompts."""
    changed: int
    """Prompts that the trained model answers differently than the base."""
    similarity: float
    """Of its answers and the base's."""
    merged_as_adapter: float | None = None
    changed_as_adapter: float | None = None
    """Of the prompts that changed alone."""
    changed_as_base: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    prompts: Sequence[Any], base: Sequence[str], adapter: Sequence[str], merged: Sequence[str] | None = None
) -> Report:
    """Answers in the order of the prompts, at least one. `adapter` may also be a model all of whose weights learned."""
    changed = [at for at in range(len(prompts)) if differs(adapter[at], base[at])]
    report = Report(
        passed=bool(changed),
        sentence=_trained(len(prompts), len(changed)),
        asked=len(prompts),
        changed=len(changed),
        similarity=_mean(base, adapter, range(len(prompts))),
    )
    return report if merged is None or not changed else _judge_merged(report, changed, (base, adapter, merged))


def _judge_merged(
    report: Report, changed: Sequence[int], answers: tuple[Sequence[str], Sequence[str], Sequence[str]]
) -> Report:
    base, adapter, merged = answers
    whole = _mean(merged, adapter, range(report.asked))
    near, far = _mean(merged, adapter, changed), _mean(merged, base, changed)
    passed = whole >= AGREES and near > far
    if passed:
        sentence = f"The merged model answers as the adapter does: similarity {whole:.2f}. {report.sentence}"
    elif near <= far:
        sentence = (
            f"The merged model behaves like the base: where the adapter answers differently, it is as near to the base "
            f"({far:.2f}) as to the adapter ({near:.2f}). Deploy the adapter itself."
        )
    else:
        sentence = (
            f"The merged model does not answer as the adapter does: similarity {whole:.2f}, and {AGREES} is the least. "
            "Deploy the adapter itself."
        )
    return Report(
        passed=passed, sentence=sentence, asked=report.asked, changed=report.changed,
        similarity=report.similarity, merged_as_adapter=whole, changed_as_adapter=near, changed_as_base=far,
    )  # fmt: skip


def similarity(one: str, other: str) -> float:
    """From 0 to 1, 1 for equal texts: Ratcliff and Obershelp's, of characters."""
    return round(SequenceMatcher(None, one, other, autojunk=False).ratio(), 4)


def _mean(some: Sequence[str], others: Sequence[str], which: Sequence[int]) -> float:
    return round(sum(similarity(some[at], others[at]) for at in which) / len(which), 4)


def _trained(prompts: int, changed: int) -> str:
    if changed:
        return f"{changed} of {prompts} prompts are answered differently than by the base model."
    return (
        f"It behaves like the base: all {prompts} prompts are answered exactly as by the base model. Train it for more "
        "steps, or with a higher learning rate."
    )
