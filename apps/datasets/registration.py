"""Where datasets announce themselves to the layers below, which know them only by these names."""

from apps.core import duties
from apps.datasets import exporting
from apps.datasets.jobs import JobTopic
from apps.events import progress


def register() -> None:
    duties.register("export datasets", exporting.KIND.duty)
    progress.register(exporting.TOPIC, JobTopic(exporting.KIND))
