"""Coefficients of agreement, by NLTK, in a process of their own: `python -m` this module, tasks on its standard input.

NLTK takes half a second and thirty megabytes to load, which no server process should pay at its start for a number that
is looked at now and then. Takes a JSON list of tasks `{"labels": [[coder, item, label], …], "distance": "nominal" or
"interval"}`, writes a list of `{"cohen": [[coder, coder, items, kappa], …], "fleiss": [items, kappa], "alpha": [items,
alpha]}`. A coefficient is null where it is not defined: too few labels in common.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from typing import Any

from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import binary_distance, interval_distance

DISTANCES = {"nominal": binary_distance, "interval": interval_distance}

Labels = list[tuple[str, Any, Any]]


def coefficients(labels: Labels, distance: str) -> dict[str, Any]:
    """Cohen's of each two coders and Fleiss' of all, where all of them labelled; Krippendorff's, where two did."""
    coders: dict[Any, set[str]] = defaultdict(set)
    for coder, item, _ in labels:
        coders[item].add(coder)
    everybody = sorted({coder for coder, _, _ in labels})
    shared = [label for label in labels if len(coders[label[1]]) > 1]
    return {
        "cohen": [[*pair, *_over(labels, coders, set(pair), _cohen(*pair))] for pair in combinations(everybody, 2)],
        "fleiss": _over(labels, coders, set(everybody), lambda task: task.pi()) if len(everybody) > 2 else [0, None],
        "alpha": [len({label[1] for label in shared}), _value(shared, distance, lambda task: task.alpha())],
    }


def _cohen(first: str, second: str) -> Callable[[AnnotationTask], float]:
    return lambda task: task.kappa_pairwise(first, second)


def _over(
    labels: Labels, coders: dict[Any, set[str]], wanted: set[str], value: Callable[[AnnotationTask], float]
) -> list[Any]:
    """The number of items that all of `wanted` labelled, and the coefficient over these."""
    common = [label for label in labels if label[0] in wanted and wanted <= coders[label[1]]]
    return [len({label[1] for label in common}), _value(common, "nominal", value)]


def _value(labels: Labels, distance: str, value: Callable[[AnnotationTask], float]) -> float | None:
    if not labels:
        return None
    try:
        return float(value(AnnotationTask(labels, distance=DISTANCES[distance])))
    except (ValueError, ZeroDivisionError):
        return None


if __name__ == "__main__":
    tasks = json.load(sys.stdin)
    found = [coefficients([tuple(label) for label in task["labels"]], task["distance"]) for task in tasks]
    json.dump(found, sys.stdout)
