import asyncio
from argparse import ArgumentParser
from contextlib import aclosing
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from apps.core.errors import DomainError
from apps.events import progress
from apps.models.benchmark import CONCURRENCIES, TOPIC, label, start_benchmark
from apps.models.models import Benchmark, Model

INTERRUPTED = 130  # the shell's code for Ctrl-C
COLUMNS = {
    "in flight": ("concurrency", "", 0),
    "tokens/s": ("output_tokens_per_second", "", 1),
    "requests/s": ("requests_per_second", "", 2),
    "first token p50 ms": ("first_token", "p50", 0),
    "p95": ("first_token", "p95", 0),
    "p99": ("first_token", "p99", 0),
    "inter-token p50 ms": ("inter_token", "p50", 1),
    "p95 ": ("inter_token", "p95", 1),
    "p99 ": ("inter_token", "p99", 1),
    "errors": ("errors", "", 0),
}


class Command(BaseCommand):
    help = "Measure a model: throughput and latencies at growing numbers of requests in flight."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model")
        numbers = ",".join(map(str, CONCURRENCIES))
        parser.add_argument("--concurrency", default=numbers, help="requests in flight, with commas between them")
        parser.add_argument("--prompt-tokens", type=int, default=256)
        parser.add_argument("--output-tokens", type=int, default=64)
        parser.add_argument("--requests", type=int, help="of each level; four for each in flight when left out")
        parser.add_argument("--compare", metavar="MODEL", help="show its latest benchmark beside")

    def handle(self, *_: Any, **options: Any) -> None:
        model, other = _model(options["model"]), options["compare"] and _model(options["compare"])
        try:
            benchmark = start_benchmark(
                model=model,
                concurrencies=_numbers(options["concurrency"]),
                prompt_tokens=options["prompt_tokens"],
                output_tokens=options["output_tokens"],
                requests_per_level=options["requests"],
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        _wait(benchmark)
        console = Console()
        console.print(_table(benchmark))
        if other:
            latest = Benchmark.objects.filter(model=other, status=Benchmark.Status.COMPLETED).first()
            console.print(_table(latest) if latest else f"{other} was not measured yet.")
        if benchmark.status != Benchmark.Status.COMPLETED:
            raise CommandError(f"{benchmark.uid} is {benchmark.status}. {benchmark.message}")


def _model(name: str) -> Model:
    model = Model.objects.filter(name=name).first()
    if model is None:
        raise CommandError(f"There is no model {name!r}. `manage.py models` lists them.")
    return model


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise CommandError(f"--concurrency takes numbers with commas between them, not {text!r}.") from error


def _wait(benchmark: Benchmark) -> None:
    try:
        asyncio.run(_follow(benchmark.uid))
    except KeyboardInterrupt:
        message = f"Stopped watching; {benchmark.uid} goes on. The admin's page of it can cancel it."
        raise CommandError(message, returncode=INTERRUPTED) from None
    benchmark.refresh_from_db()


async def _follow(uid: str) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("Waits for a device", total=None)
        async with aclosing(progress.watch(TOPIC, uid)) as snapshots:
            async for snapshot in snapshots:
                done, total = snapshot["completed"], snapshot["total"]
                bar.update(task, description=snapshot["status_label"], completed=done, total=total)


def _table(benchmark: Benchmark) -> Table:
    """A row for each level."""
    table = Table(*COLUMNS, title=label(benchmark), title_justify="left")
    for level in benchmark.levels:
        table.add_row(*(_cell(level, *column) for column in COLUMNS.values()))
    return table


def _cell(level: dict[str, Any], name: str, percentile: str, digits: int) -> str:
    value = level.get(name)
    if percentile:
        value = value and value[percentile]
    return "-" if value is None else f"{value:,.{digits}f}"
