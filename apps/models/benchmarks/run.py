"""Benchmarks as a kind of GPU work: a level at a time, so that a crash costs one and people never wait for long."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import aiohttp
import msgspec
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.core import attempts, leases
from apps.events import progress
from apps.models.benchmarks.load import Figures, Interrupted, Load, measure
from apps.models.benchmarks.services import GOING, TOPIC, Sweep, unmeasured
from apps.models.jobs import EngineHost, Job
from apps.models.models import Benchmark, Engine, Model
from apps.models.slots import Slot

LEVEL_SECONDS = 180.0  # in which a level's requests begin; what is slower is measured with fewer
GIVE_UP_SECONDS = 600.0  # after which a level's answers are waited for no more
GUESS_SECONDS = 30.0  # of a level, before any was measured
LOOK_SECONDS = 0.5
PATIENCE = timedelta(hours=24)
PREFIX = "benchmark:"  # of the leases' keys
WARM_UP = 2  # requests, which are not counted


class Unmeasured(Exception):
    """A level cannot be measured. The message says why, and what to do."""


class EngineDied(Unmeasured):
    """Trying again may help."""


class BenchmarkKind:
    """Benchmarks that wait for their model's engine."""

    def backlog(self) -> list[Job]:
        waiting = unmeasured(Benchmark.objects.filter(cancel_requested_at=None)).select_related("model")
        return attempts.each(waiting.order_by("id"), PREFIX, _job, _give_up)

    def run(self, host: EngineHost, keeper: leases.Keeper, window: int) -> None:
        """Those of the engine's models and adapters, one after the other, a level at a time."""

        def served() -> QuerySet[Benchmark]:
            of_engine = Benchmark.objects.filter(model__name__in=host.engine.served, cancel_requested_at=None)
            return unmeasured(of_engine).order_by("id")

        def measure_next(benchmark: Benchmark, held: leases.Held) -> None:
            _Run(benchmark, held, host, keeper).go()

        attempts.work_through(served, PREFIX, keeper, measure_next, _give_up, go_on=host.go_on)


def _give_up(pk: int, why: str) -> None:
    going = Benchmark.objects.filter(pk=pk, status__in=GOING)
    for benchmark in going:
        going.update(status=Benchmark.Status.FAILED, message=why, ended_at=Now())
        progress.hint(TOPIC, benchmark.uid)


def _job(benchmark: Benchmark) -> Job:
    sweep, done = Sweep.parse(benchmark.sweep), benchmark.levels
    left = sweep.concurrencies[len(done) :]
    each = sum(level["seconds"] for level in done) / len(done) if done else GUESS_SECONDS
    return Job(
        kind="benchmark",
        model_id=benchmark.model.base_id or benchmark.model_id,
        waiting=sum(map(sweep.requests, left)),
        priority=0,
        deadline=benchmark.created_at + PATIENCE,
        since=benchmark.created_at,
        seconds=each * len(left),  # and nothing is learned from it about a batch's requests
    )


class _Run:
    """One benchmark on one engine, from the first level that is lacking."""

    def __init__(self, benchmark: Benchmark, held: leases.Held, host: EngineHost, keeper: leases.Keeper) -> None:
        self._benchmark, self._held, self._host, self._keeper = benchmark, held, host, keeper
        self._sweep = Sweep.parse(benchmark.sweep)
        self._looked = 0.0
        self._cancelled = False

    def go(self) -> None:
        """Returns at the end, or when the engine is wanted elsewhere. Raises `Fenced`."""
        try:
            self._begin()
            for concurrency in self._sweep.concurrencies[len(self._benchmark.levels) :]:
                if self._must_stop() or not self._host.go_on():
                    raise Interrupted
                self._keep(self._load(concurrency, self._sweep.requests(concurrency)))
            self._end(Benchmark.Status.COMPLETED)
        except Interrupted:  # if not cancelled it stays as it is, for whoever goes on with it
            if self._is_cancelled():
                self._end(Benchmark.Status.CANCELLED)
        except Unmeasured as error:
            self._end(Benchmark.Status.FAILED, str(error))

    def _begin(self) -> None:
        """Levels of another device, revision or setting do not go together with ours: they are measured again."""
        here = self._circumstances()
        same = all(getattr(self._benchmark, name) == value for name, value in here.items())
        self._change(status=Benchmark.Status.RUNNING, levels=self._benchmark.levels if same else [], **here)
        self._load(1, WARM_UP)

    def _circumstances(self) -> dict[str, Any]:
        """Where, and with what, it is measured."""
        spec = self._host.engine.spec
        here = Engine.objects.filter(socket=str(spec.socket), device__slot__startswith=Slot.here("").key)
        row = here.select_related("device").first()
        return {
            "revision": self._benchmark.model.revision,
            "engine_settings": msgspec.to_builtins(spec.settings),
            "device": row.device if row else None,
            "device_name": str(row.device) if row else "",
        }

    def _load(self, concurrency: int, requests: int) -> Figures:
        """Once more when the engine dies under it. Raises `Interrupted`, `Unmeasured`."""
        try:
            return self._try(concurrency, requests)
        except EngineDied:
            if not self._host.restart():
                if self._must_stop():
                    raise Interrupted from None
                raise
        self._try(1, WARM_UP)
        return self._try(concurrency, requests)

    def _try(self, concurrency: int, requests: int) -> Figures:
        """Raises `Interrupted`: we have to stop, or were called elsewhere and ran out of patience; `Unmeasured`."""
        model = self._benchmark.model
        load = Load(
            model=model.name,
            pooling=model.runner == Model.Runner.POOLING,
            concurrency=concurrency,
            requests=requests,
            prompt_tokens=self._sweep.prompt_tokens,
            output_tokens=self._sweep.output_tokens,
            seconds=LEVEL_SECONDS,
        )
        died = f"The engine died while {concurrency} requests were in flight; the model's page has its log."
        try:
            figures = self._watch(load)
        except (aiohttp.ClientError, OSError) as error:
            raise EngineDied(died) from error
        if not self._host.engine.alive():
            raise EngineDied(died)
        if figures.errors == figures.requests:
            raise Unmeasured(f"The engine answers no request: {figures.error}")
        return figures

    def _watch(self, load: Load) -> Figures:
        """The event loop has a thread of its own; this one looks at the database."""
        stop, began, called_at = threading.Event(), time.monotonic(), float("inf")
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(asyncio.run, measure(self._host.engine.spec.socket, load, should_stop=stop.is_set))
            while not wait([future], LOOK_SECONDS).done:
                now = time.monotonic()
                called_at = float("inf") if self._host.go_on() else min(called_at, now)
                if self._must_stop() or now - called_at > self._host.patience():
                    stop.set()
                elif now - began > GIVE_UP_SECONDS:
                    stop.set()
                    message = f"The engine did not answer {load.concurrency} requests within {GIVE_UP_SECONDS:g} s:"
                    raise Unmeasured(f"{message} ask for fewer tokens, or fewer in flight.")
            return future.result()

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

    def _end(self, status: Benchmark.Status, message: str = "") -> None:
        self._change(status=status, message=message, ended_at=Now())

    def _change(self, **changes: Any) -> None:
        """Raises `Fenced` when it is ours no more, or has ended."""
        with transaction.atomic(), connection.cursor() as cursor:
            leases.fence(cursor, self._held)
            if not Benchmark.objects.filter(pk=self._benchmark.pk, status__in=GOING).update(**changes):
                raise leases.Fenced(self._held.key)
        self._benchmark.refresh_from_db()
        progress.hint(TOPIC, self._benchmark.uid)
