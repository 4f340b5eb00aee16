"""What a run will take, before it is started: tokens, time and cost of each model, and where each number comes from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Avg, Q
from django.db.models.functions import Length

from apps.datasets.models import Column, Split, Version
from apps.datasets.runs.tools import asked_of
from apps.models.models import Benchmark, Model, Timing

CHARACTERS_PER_TOKEN = 4.0  # of English text, before anything was measured
OUTPUT_TOKENS = 256  # of an answer that nothing bounds, before anything was measured
SAMPLE_EXAMPLES = 20_000  # whose lengths stand for all
SAMPLE = 1_000  # answers of an earlier run that are looked at

_MEASURED = """
SELECT coalesce(sum(input_tokens), 0), coalesce(sum(characters), 0), coalesce(sum(output_tokens), 0), count(*) FROM (
    SELECT a.input_tokens, a.output_tokens, length(e.messages) + length(e.request) AS characters
    FROM datasets_answer a JOIN datasets_example e ON e.id = a.example_id
    WHERE a.column_id = %s AND a.edit_of_id IS NULL AND a.error = '' AND a.sample = 0 LIMIT %s
) AS seen
"""


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    seconds: float | None
    """On one device that does nothing else; None: nothing is known about the model's speed."""
    cost: float | None
    """In the settings' currency; None: no price, or no time, is known."""
    input_from: str
    output_from: str
    seconds_from: str


@dataclass(frozen=True, slots=True)
class Estimate:
    items: int
    samples: int
    models: list[ModelEstimate]
    currency: str

    @property
    def input_tokens(self) -> int:
        return sum(each.input_tokens for each in self.models)

    @property
    def output_tokens(self) -> int:
        return sum(each.output_tokens for each in self.models)

    @property
    def seconds(self) -> float | None:
        """One after another on one device; None unless it is known of every model."""
        return _sum([each.seconds for each in self.models])

    @property
    def cost(self) -> float | None:
        return _sum([each.cost for each in self.models])

    def as_dict(self) -> dict[str, Any]:
        totals = {name: getattr(self, name) for name in ("input_tokens", "output_tokens", "seconds", "cost")}
        return {**asdict(self), **totals}


@dataclass(frozen=True, slots=True)
class _Measured:
    """What an earlier run of the model showed."""

    run: str
    characters_per_token: float
    output_tokens: float
    """Of one answer."""


def estimate(
    *,
    version: Version,
    models: Sequence[Model],
    parameters: dict[str, Any],
    samples: int = 1,
    split: Split | None = None,
    part: str = "",
) -> Estimate:
    """`parameters` as `parameters.check` returns them. Two queries, and four a model."""
    examples = asked_of(version, split, part)
    items = examples.count()
    sized = examples.order_by("number").annotate(size=Length("messages") + Length("request"))[:SAMPLE_EXAMPLES]
    average = sized.aggregate(average=Avg("size"))["average"] or 0
    characters = round(items * (average + len(parameters.get("system", ""))))
    told = [_estimate(model, items, characters, parameters, samples) for model in models]
    return Estimate(items, samples, told, settings.CURRENCY)


def _estimate(model: Model, items: int, characters: int, parameters: dict[str, Any], samples: int) -> ModelEstimate:
    measured = _measured(model)
    input_tokens, input_from = _input(characters, measured)
    each, output_from = _output(parameters.get("max_tokens"), measured)
    output_tokens = round(items * samples * each)
    seconds, seconds_from = _seconds(model, items * samples, output_tokens)
    price = settings.GPU_HOUR_COST
    cost = None if seconds is None or not price else seconds / 3600 * price
    return ModelEstimate(
        model.name, items, input_tokens, output_tokens, seconds, cost, input_from, output_from, seconds_from
    )


def _measured(model: Model) -> _Measured | None:
    column = Column.objects.filter(model_name=model.name, answered__gt=0).select_related("run").order_by("-pk").first()
    if column is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_MEASURED, (column.pk, SAMPLE))
        tokens, characters, output, answers = cursor.fetchone()
    if not (tokens and answers):
        return None
    characters += answers * len(column.run.parameters.get("system", ""))
    return _Measured(column.run.name, characters / tokens, output / answers)


def _input(characters: int, measured: _Measured | None) -> tuple[int, str]:
    if measured is None:
        return round(characters / CHARACTERS_PER_TOKEN), f"{CHARACTERS_PER_TOKEN:g} characters are taken for a token"
    rate = measured.characters_per_token
    return round(characters / rate), f"{rate:.1f} characters a token, as in {measured.run!r}"


def _output(bound: int | None, measured: _Measured | None) -> tuple[float, str]:
    """Of one answer."""
    if measured is not None and (bound is None or measured.output_tokens < bound):
        return measured.output_tokens, f"{measured.output_tokens:.0f} tokens an answer, as in {measured.run!r}"
    if bound is not None:
        return bound, f"at most: max_tokens is {bound:,}"
    return OUTPUT_TOKENS, f"{OUTPUT_TOKENS} tokens an answer are guessed: set max_tokens for a bound"


def _seconds(model: Model, answers: int, output_tokens: int) -> tuple[float | None, str]:
    done = Benchmark.objects.filter(model=model, status=Benchmark.Status.COMPLETED).exclude(levels=[])
    if (benchmark := done.first()) is not None:
        best = max(level.get("output_tokens_per_second") or 0 for level in benchmark.levels)
        if best:
            where = f" on {benchmark.device_name}" if benchmark.device_name else ""
            return (
                output_tokens / best,
                f"{best:,.0f} tokens/s, its benchmark of {benchmark.created_at:%-d %b %Y}{where}",
            )
    requests = Timing.objects.filter(Q(model=model) | Q(model=model.engine_model), verb=Timing.Verb.REQUEST)
    learned = requests.order_by("seconds").first()
    if learned is not None:
        return answers * learned.seconds, f"{learned.seconds:.2g} s a request, learned from its batches"
    return None, "not known: measure the model once to know"


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
