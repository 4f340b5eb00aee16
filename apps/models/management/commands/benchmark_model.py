from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.console import show, whole_number
from apps.core.errors import DomainError
from apps.models.benchmarks.console import comparison_table, wait_for
from apps.models.benchmarks.services import CONCURRENCIES, start_benchmark
from apps.models.console import find_model
from apps.models.models import Benchmark, Model


class Command(BaseCommand):
    help = "Measure a model: throughput and latencies at growing numbers of requests in flight."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model")
        numbers = ",".join(map(str, CONCURRENCIES))
        parser.add_argument("--concurrency", default=numbers, metavar="N,N", help=f"requests in flight; {numbers}")
        parser.add_argument("--prompt-tokens", type=whole_number, default=256, metavar="N")
        parser.add_argument("--output-tokens", type=whole_number, default=64, metavar="N")
        parser.add_argument("--requests", type=whole_number, metavar="N", help="of each level; four for each in flight")
        parser.add_argument("--wait", action="store_true", help="until it has ended; exit code 1 if not measured")
        parser.add_argument("--compare", metavar="MODEL", help="waits, then shows its latest benchmark beside")

    def handle(self, *_: Any, **options: Any) -> None:
        model = find_model(options["model"])
        other = _latest(find_model(options["compare"])) if options["compare"] else None
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
        self.stdout.write(benchmark.uid)
        if options["wait"] or other:
            wait_for(benchmark)
        if other:
            show(comparison_table([benchmark, other]))


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise CommandError(f"--concurrency takes numbers with commas between them, not {text!r}.") from error


def _latest(model: Model) -> Benchmark:
    """Its last benchmark that was measured to the end. Raises `CommandError`."""
    benchmark = Benchmark.objects.filter(model=model, status=Benchmark.Status.COMPLETED).first()
    if benchmark is None:
        raise CommandError(f"{model} was not measured yet: `manage.py benchmark_model {model} --wait` does it.")
    return benchmark
