"""Where training announces itself to the layers below, which know it only by these names."""

from apps.events import progress
from apps.models import removal
from apps.training.progress import TrainingTopic
from apps.training.services import TOPIC
from apps.training.uses import uses_of


def register() -> None:
    progress.register(TOPIC, TrainingTopic())
    removal.register("training", uses_of)
