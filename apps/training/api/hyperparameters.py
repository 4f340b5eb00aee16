"""OpenAI's hyperparameters and our options: what one says in the words of the other."""

import math
from collections.abc import Mapping
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from apps.core.errors import DomainError
from apps.models.models import Model
from apps.training.models import TrainingJob
from apps.training.options import parse
from apps.training.presets import LEAST_BATCH_OF_THUMBS, usual

AUTO = "auto"
METHODS = {"supervised": TrainingJob.Method.SFT, "dpo": TrainingJob.Method.DPO, "kto": TrainingJob.Method.KTO}
"""OpenAI's words, and ours; OpenAI has no KTO."""
WEIGHTS = ("desirable_weight", "undesirable_weight")
PREFERENCES = ("beta", *WEIGHTS)
"""Hyperparameters of methods that prefer answers, which have our names."""
NAMES = {ours: theirs for theirs, ours in METHODS.items()}


class AutoField(serializers.Field[Any, Any, Any, Any]):
    """A number, or "auto"."""

    def __init__(self, kind: type[int] | type[float], *, above: float, most: float, **options: Any) -> None:
        """From `above`, of whole numbers inclusive, to `most`."""
        super().__init__(required=False, **options)
        self.kind, self.above, self.most = kind, above, most

    def to_internal_value(self, data: Any) -> Any:
        if data == AUTO:
            return AUTO
        if type(data) in (int, self.kind) and math.isfinite(data) and self._is_within(data):
            return self.kind(data)
        bounds = f"from {self.above:g}" if self.kind is int else f"above {self.above:g}"
        what = "a whole number" if self.kind is int else "a number"
        raise serializers.ValidationError(f"Give 'auto', or {what} {bounds} to {self.most:g}.")

    def to_representation(self, value: Any) -> Any:
        return value

    def _is_within(self, number: float) -> bool:
        least = number >= self.above if self.kind is int else number > self.above
        return least and number <= self.most


class AutoFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = AutoField

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        field, auto = self.target, {"type": "string", "enum": [AUTO]}
        if field.kind is int:
            return {"oneOf": [auto, {"type": "integer", "minimum": field.above, "maximum": field.most}]}
        number = {"type": "number", "minimum": field.above, "exclusiveMinimum": True, "maximum": field.most}
        return {"oneOf": [auto, number]}


class HyperparametersSerializer(serializers.Serializer[Any]):
    n_epochs = AutoField(int, above=1, most=50)
    batch_size = AutoField(int, above=1, most=256)
    learning_rate_multiplier = AutoField(float, above=0, most=10_000)


class DpoHyperparametersSerializer(HyperparametersSerializer):
    beta = AutoField(float, above=0, most=2)


class KtoHyperparametersSerializer(DpoHyperparametersSerializer):
    desirable_weight = AutoField(float, above=0, most=1000)
    undesirable_weight = AutoField(float, above=0, most=1000)


def options_of(
    base: Model, asked: Mapping[str, Any], chosen: Mapping[str, Any], seed: int | None, *, method: str, technique: str
) -> dict[str, Any]:
    """What was asked in OpenAI's words, in ours; `chosen`, our own words, counts more. Raises `DomainError`.

    What is "auto" is left out, as is the multiplier of the learning rate: both wait for the rows to be counted.
    """
    fits = usual(base.bytes / 2, method, technique)  # type: ignore[arg-type] # the columns' choices are the types'
    numbers = {name: value for name, value in asked.items() if value != AUTO}
    made: dict[str, Any] = {}
    if "n_epochs" in numbers:
        made["epochs"] = float(numbers["n_epochs"])
    if "batch_size" in numbers:
        least = LEAST_BATCH_OF_THUMBS if method == TrainingJob.Method.KTO else 1
        made |= _batches(numbers["batch_size"], fits["batch_size"], least)
    if "learning_rate_multiplier" in numbers:
        _check_rate(fits["learning_rate"], numbers["learning_rate_multiplier"])
    made |= {name: numbers[name] for name in PREFERENCES if name in numbers}
    return made | ({} if seed is None else {"seed": seed}) | dict(chosen)


def _batches(wanted: int, at_once: int, least: int) -> dict[str, int]:
    """Examples of one step: as many at once as is usual for the model or fewer, so that the product is as wanted."""
    size = max((size for size in range(least, at_once + 1) if wanted % size == 0), default=wanted)
    return {"batch_size": size, "accumulation": wanted // size}


def _check_rate(usual_rate: float, multiplier: float) -> None:
    if usual_rate * multiplier > 1:
        message = f"The usual learning rate is {usual_rate:g}, so the multiplier may be {1 / usual_rate:,.0f} at most."
        raise DomainError(message, param="hyperparameters.learning_rate_multiplier", code="invalid_value")


def hyperparameters_of(job: TrainingJob) -> dict[str, Any]:
    """In OpenAI's words: what was set, and once its rows are counted, what was found for "auto".

    "auto" stays where there is no such number.
    """
    options, known = parse(job.options), (job.options if job.plan else job.chosen).keys()
    whole = options.epochs == int(options.epochs) and not options.max_steps
    found = {
        "n_epochs": int(options.epochs) if whole and "epochs" in known else AUTO,
        "batch_size": options.batch_size * options.accumulation if {"batch_size", "accumulation"} & known else AUTO,
        "learning_rate_multiplier": job.hyperparameters.get("learning_rate_multiplier", AUTO),
    }
    if job.method == TrainingJob.Method.SFT:
        return found
    weights = {name: getattr(options, name) or AUTO for name in WEIGHTS} if job.method == TrainingJob.Method.KTO else {}
    return found | {"beta": options.beta} | weights
