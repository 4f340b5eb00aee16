"""Where models announce themselves to the layers below, which know them only by these names."""

from apps.core import duties
from apps.events import progress
from apps.models import benchmark, demand, jobs
from apps.models.benchmark_run import BenchmarkKind
from apps.models.boot import BootKind, settle_boots
from apps.models.install import install_next
from apps.models.progress import TOPIC, InstallTopic
from apps.models.removal import remove_unused_files


def register() -> None:
    jobs.register("benchmark", BenchmarkKind())
    jobs.register("boot", BootKind())
    jobs.register("interactive", demand.InteractiveKind())
    duties.register("install models", install_next)
    duties.register("settle boots", settle_boots)
    duties.register("settle cancelled benchmarks", benchmark.settle_cancelled)
    duties.register("remove unused files", remove_unused_files)
    duties.register("forget demands", demand.forget)
    progress.register(benchmark.TOPIC, benchmark.BenchmarkTopic())
    progress.register(TOPIC, InstallTopic())
