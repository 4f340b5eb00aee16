"""Where datasets announce themselves to the layers below, which know them only by these names."""

from apps.core import duties
from apps.datasets import duplicates
from apps.datasets.exports import job as exporting
from apps.datasets.imports import job as importing
from apps.datasets.jobs import JobTopic
from apps.datasets.runs import collecting, sending
from apps.datasets.runs.progress import TOPICS
from apps.datasets.runs.uses import uses_of
from apps.events import progress
from apps.models import removal


def register() -> None:
    for kind in (importing.KIND, duplicates.KIND, exporting.KIND):
        duties.register(f"work on {kind.topic} jobs", kind.duty)
        progress.register(kind.topic, JobTopic(kind))
    duties.register("send columns", sending.send_columns)
    duties.register("send judges", sending.send_judges)
    duties.register("collect answers", collecting.collect_answers)
    for name, topic in TOPICS.items():
        progress.register(name, topic)
    removal.register("datasets", uses_of)
