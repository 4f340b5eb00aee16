"""Where models announce themselves to the layers below, which know them only by these names."""

from apps.core import duties
from apps.events import progress
from apps.models import demand, jobs
from apps.models.benchmarks import services as benchmarks
from apps.models.benchmarks.run import BenchmarkKind
from apps.models.installs.boot import BootKind, settle_boots
from apps.models.installs.duty import install_next
from apps.models.installs.progress import TOPIC, InstallTopic
from apps.models.removal import remove_unused_files


def register() -> None:
    jobs.register("benchmark", BenchmarkKind())
    jobs.register("boot", BootKind())
    jobs.register("interactive", demand.InteractiveKind())
    duties.register("install models", install_next)
    duties.register("settle boots", settle_boots)
    duties.register("settle cancelled benchmarks", benchmarks.settle_cancelled)
    duties.register("remove unused files", remove_unused_files)
    duties.register("forget demands", demand.forget)
    progress.register(benchmarks.TOPIC, benchmarks.BenchmarkTopic())
    progress.register(TOPIC, InstallTopic())
