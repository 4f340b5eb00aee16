"""Benchmarks: what may be asked for, who sees them, and how several are shown together.

A benchmark is a sweep over numbers of requests in flight, measured on one device (`apps.models.benchmarks.run`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.core.leases import Keeper
from apps.core.waiting import with_reason
from apps.events import progress
from apps.models.engines.spec import window
from apps.models.models import Benchmark, Device, Model
from apps.models.slots import Slot

TOPIC = "benchmark"
CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64)
MAX_LEVELS = 12
MAX_CONCURRENCY = 1024
MAX_TOKENS = 32_768  # of a prompt, or of an answer
MAX_REQUESTS = 10_000  # of a level
GOING = (Benchmark.Status.QUEUED, Benchmark.Status.RUNNING)

# What a chart can show of a level, and in what unit.
MEASURES = {
    "output_tokens_per_second": "tokens/s",
    "requests_per_second": "requests/s",
    "first_token": "ms",
    "inter_token": "ms",
    "latency": "ms",
}


@dataclass(frozen=True, slots=True)
class Sweep:
    """What `Benchmark.sweep` holds."""

    concurrencies: tuple[int, ...]
    prompt_tokens: int
    output_tokens: int
    requests_per_level: int | None
    """None: four of each client, at least eight."""

    @classmethod
    def parse(cls, sweep: dict[str, Any]) -> "Sweep":
        return cls(**{**sweep, "concurrencies": tuple(sweep["concurrencies"])})

    def requests(self, concurrency: int) -> int:
        return max(4 * concurrency, 8) if self.requests_per_level is None else self.requests_per_level


def start_benchmark(
    *,
    model: Model,
    concurrencies: Sequence[int] = CONCURRENCIES,
    prompt_tokens: int = 256,
    output_tokens: int = 64,
    requests_per_level: int | None = None,
    project: Project | None = None,
    created_by: User | None = None,
) -> Benchmark:
    """Measure the model as soon as a device is free for it.

    Numbers in flight beyond what its engine computes at once are left out: they would measure a queue. `project` is
    that of the key which asks. Raises `DomainError` for a sweep that makes no sense.
    """
    if not model.ready:
        raise Conflict(f"{model.name!r} is not ready yet: wait until its install has ended.", param="model")
    bounds = {
        "prompt_tokens": (prompt_tokens, 8, MAX_TOKENS),
        "output_tokens": (output_tokens, 2, MAX_TOKENS),
        "requests_per_level": (MAX_REQUESTS if requests_per_level is None else requests_per_level, 1, MAX_REQUESTS),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            raise DomainError(f"{name} must be from {least} to {most:,}, not {value:,}.", param=name)
    with transaction.atomic():
        benchmark = Benchmark.objects.create(
            model=model,
            revision=model.revision,
            sweep={
                "concurrencies": _levels(model, concurrencies),
                "prompt_tokens": prompt_tokens,
                "output_tokens": output_tokens,
                "requests_per_level": requests_per_level,
            },
            project=project,
            created_by=created_by,
        )
        bell.ring("gpu")
    benchmark.refresh_from_db()
    return benchmark


def _levels(model: Model, concurrencies: Sequence[int]) -> list[int]:
    levels = sorted(set(concurrencies))
    if not 1 <= len(levels) <= MAX_LEVELS or levels[0] < 1 or levels[-1] > MAX_CONCURRENCY:
        message = f"Give 1 to {MAX_LEVELS} numbers of requests in flight, each from 1 to {MAX_CONCURRENCY:,}."
        raise DomainError(message, param="concurrencies")
    slots = map(Slot.parse, Device.objects.values_list("slot", flat=True))
    most = max((window(model.engine_model, slot) for slot in slots), default=MAX_CONCURRENCY)
    most += settings.INTERACTIVE_SEATS
    if levels[0] > most:
        message = f"Its engine computes {most} requests at once: ask for fewer, or raise the model's max_num_seqs."
        raise DomainError(message, param="concurrencies")
    return [level for level in levels if level <= most]


def cancel_benchmark(*, benchmark: Benchmark) -> bool:
    """Stop it within seconds; levels that were measured are kept. False when it has ended, or was cancelled before."""
    going_on = Benchmark.objects.filter(pk=benchmark.pk, status__in=GOING, cancel_requested_at=None)
    if not going_on.update(cancel_requested_at=Now()):
        benchmark.refresh_from_db()
        return False
    _end_cancelled(Benchmark.objects.filter(pk=benchmark.pk))
    benchmark.refresh_from_db()
    progress.hint(TOPIC, benchmark.uid)
    return True


def settle_cancelled(_keeper: Keeper) -> bool:
    """A control duty: what was cancelled while a worker measured that was killed then."""
    return _end_cancelled(Benchmark.objects.all())


def _end_cancelled(benchmarks: QuerySet[Benchmark]) -> bool:
    """Those that nobody measures; who measures one ends it himself."""
    asked = unmeasured(benchmarks).exclude(cancel_requested_at=None)
    return bool(asked.update(status=Benchmark.Status.CANCELLED, ended_at=Now()))


def unmeasured(benchmarks: QuerySet[Benchmark]) -> QuerySet[Benchmark]:
    """Those that have not ended, and that no worker measures now."""
    return benchmarks.filter(status__in=GOING).extra(
        where=[
            "NOT EXISTS (SELECT FROM core_lease l WHERE l.key = 'benchmark:' || models_benchmark.id"
            " AND l.expires_at > clock_timestamp())"
        ]
    )


class BenchmarkTopic:
    """See `apps.events.progress.Topic`. Who may use the model may see how it was measured."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        return visible_to(who).filter(uid=uid).exists()

    def snapshot(self, uid: str) -> progress.Snapshot | None:
        benchmark = Benchmark.objects.filter(uid=uid).first()
        return None if benchmark is None else snapshot_of(benchmark)


def visible_to(who: User | Project) -> QuerySet[Benchmark]:
    """The benchmarks of the models that a project, or a member of projects, may use."""
    if isinstance(who, User) and who.is_superuser:
        return Benchmark.objects.all()
    projects = [who] if isinstance(who, Project) else Project.objects.visible_to(who)
    return Benchmark.objects.filter(Q(model__project=None) | Q(model__project__in=projects))


def snapshot_of(benchmark: Benchmark) -> progress.Snapshot:
    snapshot = {
        "id": benchmark.uid,
        "object": "benchmark.progress",
        "status": benchmark.status,
        "status_label": benchmark.get_status_display(),
        "final": benchmark.status in Benchmark.ENDED,
        "message": benchmark.message,
        "total": len(benchmark.sweep["concurrencies"]),
        "completed": len(benchmark.levels),
        "levels": benchmark.levels,
    }
    return with_reason(snapshot, f"benchmark:{benchmark.pk}")


def compare(
    benchmarks: Iterable[Benchmark], measure: str, percentile: str = "p95", *, against: str = "concurrency"
) -> list[dict[str, Any]]:
    """A line of a chart for each: y is the measure (see MEASURES) in its unit, x the number of requests in flight.

    `against` names a measure for x instead, throughput for example. `percentile` (p50, p95, p99) chooses among those
    of a time. Levels without the measure are left out.
    """
    series = []
    for benchmark in benchmarks:
        pairs = [(_value(level, against, percentile), _value(level, measure, percentile)) for level in benchmark.levels]
        points = [{"x": x, "y": y} for x, y in pairs if x is not None and y is not None]
        series.append({"id": benchmark.uid, "label": label(benchmark), "unit": MEASURES[measure], "points": points})
    return series


def _value(level: dict[str, Any], measure: str, percentile: str) -> float | None:
    value = level.get(measure)
    value = value.get(percentile) if isinstance(value, dict) else value
    return None if value is None else round(value, 2)


def label(benchmark: Benchmark) -> str:
    """Model, revision and device: what was measured."""
    revision = f" @{benchmark.revision[:7]}" if benchmark.revision else ""
    device = f" on {benchmark.device_name}" if benchmark.device_name else ""
    return f"{benchmark.model}{revision}{device}"
