"""Where training announces itself to the layers below, which know it only by these names."""

from apps.core import duties
from apps.events import progress
from apps.models import jobs, removal
from apps.training.progress import TrainingTopic
from apps.training.services import TOPIC
from apps.training.uses import uses_of
from apps.training.validation import purge_prepared, validate_next
from apps.training.work import TrainingKind, go_on_where_there_is_room


def register() -> None:
    jobs.register("training", TrainingKind())
    duties.register("go on where there is room", go_on_where_there_is_room)
    duties.register("validate training files", validate_next)
    duties.register("purge prepared training files", purge_prepared)
    progress.register(TOPIC, TrainingTopic())
    removal.register("training", uses_of)
