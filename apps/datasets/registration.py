"""Where datasets announce themselves to the layers below, which know them only by these names."""

from apps.core import duties
from apps.datasets import duplicates
from apps.datasets.exports import job as exporting
from apps.datasets.imports import job as importing
from apps.datasets.jobs import JobTopic
from apps.datasets.runs import collecting, sending
from apps.datasets.runs.progress import TOPICS
from apps.events import progress


def register() -> None:
    duties.register("import datasets", importing.KIND.duty)
    duties.register("find duplicates", duplicates.KIND.duty)
    progress.register(importing.TOPIC, JobTopic(importing.KIND))
    progress.register(duplicates.TOPIC, JobTopic(duplicates.KIND))
    duties.register("send columns", sending.send_columns)
    duties.register("send judges", sending.send_judges)
    duties.register("collect answers", collecting.collect_answers)
    for name, topic in TOPICS.items():
        progress.register(name, topic)
    duties.register("export datasets", exporting.KIND.duty)
    progress.register(exporting.TOPIC, JobTopic(exporting.KIND))
