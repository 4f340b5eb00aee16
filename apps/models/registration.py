"""Where models announce themselves to the layers below, which know them only by these names."""

from apps.events import progress
from apps.models import benchmark, jobs
from apps.models.benchmark_run import BenchmarkKind


def register() -> None:
    jobs.register("benchmark", BenchmarkKind())
    progress.register(benchmark.TOPIC, benchmark.BenchmarkTopic())
