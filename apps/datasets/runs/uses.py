"""What of the workbench names a model, for whoever thinks of deleting it."""

from django.db.models import Q

from apps.datasets.models import Dataset
from apps.models.models import Model
from apps.models.removal import Use


def uses_of(model: Model) -> Use:
    """Datasets with a column or a judge of the model; those that wait to be sent to it need it."""
    columns, judges = Q(runs__columns__model=model), Q(runs__judges__model=model)
    waiting = (columns & Q(runs__columns__due=True)) | (judges & Q(runs__judges__due=True))
    named = Dataset.objects.filter(columns | judges).distinct()
    return Use("datasets", named.count(), Dataset.objects.filter(waiting).distinct().count())
