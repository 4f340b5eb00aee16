"""Benchmarks as a kind of GPU work: a level at a time, so that a crash costs one and people never wait for long."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import aiohttp
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.core import leases
from apps.core.owner import owner
from apps.events import progress
from apps.models.benchmark import TOPIC, Sweep
from apps.models.jobs import EngineHost, Job
from apps.models.load import Figures, Interrupted, Load, measure
from apps.models.models import Benchmark, Engine, Model

GOING = (Benchmark.Status.QUEUED, Benchmark.Status.RUNNING)
LEVEL_SECONDS = 900.0  # after which a level is given up
LOOK_SECONDS = 0.5
PATIENCE = timedelta(hours=24)
WARM_UP = 2  # requests, which are not counted

log = logging.getLogger(__name__)


class BenchmarkKind:
    """Benchmarks that wait for their model's engine."""

    def backlog(self) -> list[Job]:
        return [_job(benchmark) for benchmark in _free(Benchmark.objects.select_related("model"))]

    def run(self, host: EngineHost, keeper: leases.Keeper, window: int) -> None:
        """Those of the engine's models and adapters, one after the other, a level at a time."""
        while host.go_on():
            benchmark = _free(Benchmark.objects.filter(model__name__in=host.engine.served)).first()
            if benchmark is None:
                return
            with connection.cursor() as cursor:
                held = leases.claim(cursor, f"benchmark:{benchmark.pk}", owner())
            if held is None:
                continue
            keeper.add(held)
            try:
                _Run(benchmark, held, host, keeper).go()
            except leases.Fenced:
                log.info("%s was taken over", benchmark.uid)
            finally:
                keeper.remove(held)
                with connection.cursor() as cursor:
                    leases.release(cursor, held)


def _free(benchmarks: QuerySet[Benchmark]) -> QuerySet[Benchmark]:
    """Those that nobody measures now, in order."""
    return (
        benchmarks.filter(status__in=GOING)
        .extra(
            where=[
                "NOT EXISTS (SELECT FROM core_lease l WHERE l.key = 'benchmark:' || models_benchmark.id"
                " AND l.expires_at > clock_timestamp())"
            ]
        )
        .order_by("id")
    )


def _job(benchmark: Benchmark) -> Job:
    sweep = Sweep.parse(benchmark.sweep)
    return Job(
        kind="benchmark",
        model_id=benchmark.model.base_id or benchmark.model_id,
        waiting=sum(sweep.requests(concurrency) for concurrency in sweep.concurrencies[len(benchmark.levels) :]),
        priority=0,
        deadline=benchmark.created_at + PATIENCE,
        since=benchmark.created_at,
    )


class _Run:
    """One benchmark on one engine, from the first level that is lacking."""

    def __init__(self, benchmark: Benchmark, held: leases.Held, host: EngineHost, keeper: leases.Keeper) -> None:
        self._benchmark, self._held, self._host, self._keeper = benchmark, held, host, keeper
        self._sweep = Sweep.parse(benchmark.sweep)
        self._looked = 0.0
        self._cancelled = False

    def go(self) -> None:
        """Returns at the end, or between two levels when the engine is wanted elsewhere. Raises `Fenced`."""
        self._begin()
        tries = 0
        for concurrency in self._sweep.concurrencies[len(self._benchmark.levels) :]:
            while (figures := self._load(concurrency, self._sweep.requests(concurrency))) is None:
                if self._must_stop():
                    return self._stop()
                tries += 1
                if tries > 1 or not (self._host.engine.alive() or self._host.restart()):
                    return self._end(Benchmark.Status.FAILED, "The engine died, or stood still, while it was measured.")
            if figures.errors == figures.requests:
                return self._end(Benchmark.Status.FAILED, f"The engine answers no request: {figures.error}")
            self._keep(figures)
            if not self._host.go_on():
                return self._stop()
        return self._end(Benchmark.Status.COMPLETED)

    def _begin(self) -> None:
        device = Engine.objects.select_related("device").filter(socket=str(self._host.engine.spec.socket)).first()
        self._change(
            status=Benchmark.Status.RUNNING,
            engine_settings=self._benchmark.model.engine_model.engine_settings,
            **({"device": device.device, "device_name": str(device.device)} if device else {}),
        )
        self._load(1, WARM_UP)

    def _load(self, concurrency: int, requests: int) -> Figures | None:
        """None: the engine is gone, it took too long, or we have to stop."""
        model = self._benchmark.model
        load = Load(
            model=model.name,
            pooling=model.runner == Model.Runner.POOLING,
            concurrency=concurrency,
            requests=requests,
            prompt_tokens=self._sweep.prompt_tokens,
            output_tokens=self._sweep.output_tokens,
        )
        stop, deadline = threading.Event(), time.monotonic() + LEVEL_SECONDS
        with ThreadPoolExecutor(1) as pool:  # the event loop's thread; this one asks the database
            future = pool.submit(asyncio.run, measure(self._host.engine.spec.socket, load, should_stop=stop.is_set))
            while not wait([future], LOOK_SECONDS).done:
                if self._must_stop() or time.monotonic() > deadline:
                    stop.set()
        try:
            figures = future.result()
        except (Interrupted, aiohttp.ClientError, OSError):
            return None
        return figures if self._host.engine.alive() else None

    def _must_stop(self) -> bool:
        """Told to, taken over, or cancelled. Asks the database once a second."""
        return self._host.must_stop() or self._keeper.lost(self._held) or self._is_cancelled()

    def _is_cancelled(self) -> bool:
        if not self._cancelled and time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            asked = Benchmark.objects.filter(pk=self._benchmark.pk).exclude(cancel_requested_at=None)
            self._cancelled = asked.exists()
        return self._cancelled

    def _keep(self, figures: Figures) -> None:
        self._change(levels=[*self._benchmark.levels, figures.as_dict()])

    def _stop(self) -> None:
        """Cancelled; else it stays as it is, for whoever goes on with it."""
        if self._is_cancelled():
            self._end(Benchmark.Status.CANCELLED)

    def _end(self, status: Benchmark.Status, message: str = "") -> None:
        self._change(status=status, message=message, ended_at=Now())

    def _change(self, **changes: Any) -> None:
        """Only while it is ours and has not ended."""
        with transaction.atomic(), connection.cursor() as cursor:
            leases.fence(cursor, self._held)
            Benchmark.objects.filter(pk=self._benchmark.pk, status__in=GOING).update(**changes)
        self._benchmark.refresh_from_db()
        progress.hint(TOPIC, self._benchmark.uid)
