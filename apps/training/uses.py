"""What of fine-tuning names a model, for whoever thinks of deleting it."""

from apps.models.models import Model
from apps.models.removal import Use
from apps.training.models import TrainingJob


def uses_of(model: Model) -> Use:
    """Jobs that train on it; those that go on need it. A deployment's own model is its to take back."""
    jobs = TrainingJob.objects.filter(base=model)
    return Use("fine-tuning jobs", jobs.count(), jobs.filter(status__in=TrainingJob.OPEN).count())
