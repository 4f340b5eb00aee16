"""Where the files of deployments are, and for how long they stay.

A deployment has folders of its own below MODELS_DIR, named as those of commits are, so that what nothing needs is
removed as theirs is (`apps.models.removal`). They stay while the deployment goes on or its model is there. Afterwards,
for `roll_back`, those of a deployment that was served stay while it is one of the last two of its name.
"""

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from apps.models.models import Model
from apps.models.removal import Use
from apps.training import options as options_of_training
from apps.training.models import Checkpoint, Deployment, TrainingJob

PREFIX = "deployment--"
LAST = 2  # deployments of a name whose files are kept: the one that is served, and the one before
EXPECTED = timedelta(days=7)  # for which a base keeps room for the adapter of a job that has ended
ADAPTERS = (TrainingJob.Technique.LORA, TrainingJob.Technique.QLORA)

Form = Literal["adapter", "merged"]
Status = Deployment.Status


def folder_of(deployment: Deployment, form: Form) -> Path:
    digest = hashlib.sha256(f"{deployment.uid}.{form}".encode()).hexdigest()
    return settings.MODELS_DIR / f"{PREFIX}{deployment.uid}" / digest[:40]


def is_whole_model(checkpoint: Checkpoint) -> bool:
    """All weights, and not an adapter."""
    return checkpoint.job.technique == TrainingJob.Technique.FULL


def served_form(deployment: Deployment) -> Form:
    return "adapter" if deployment.kind == Deployment.Kind.ADAPTER else "merged"


def was_served(deployment: Deployment) -> bool:
    """It passed its comparison."""
    return bool(deployment.parity.get("passed"))


def why_kept(folder: Path) -> str:
    """See `apps.models.claims`."""
    uid = folder.parent.name.removeprefix(PREFIX)
    deployment = Deployment.objects.filter(uid=uid).first() if folder.parent.name.startswith(PREFIX) else None
    if deployment is None:
        return ""
    if deployment.status in Deployment.OPEN:
        return "A deployment is being made of it."
    if not was_served(deployment) or folder != folder_of(deployment, served_form(deployment)):
        return ""
    return "It is kept, so that its deployment can be served again." if _is_among_the_last(deployment) else ""


def _is_among_the_last(deployment: Deployment) -> bool:
    served = Q(status__in=(Status.READY, Status.UNDEPLOYED), parity__passed=True)
    later = Deployment.objects.filter(served, project=deployment.project_id, name=deployment.name)
    return later.filter(pk__gt=deployment.pk).count() < LAST


def unready_models() -> QuerySet[Model]:
    """Those of deployments that go on. See `apps.models.claims`."""
    going = Deployment.objects.filter(status__in=Deployment.OPEN).exclude(model=None)
    return Model.objects.filter(pk__in=going.values("model"))


def coming_ranks(model: Model) -> Iterable[int]:
    """Of the adapters that are learned on a model, or may be deployed on it soon. See `apps.models.claims`."""
    lately = Q(status=TrainingJob.Status.SUCCEEDED, ended_at__gt=Now() - EXPECTED)
    going = Q(checkpoints__deployments__status__in=Deployment.OPEN)
    jobs = TrainingJob.objects.filter(Q(status__in=TrainingJob.OPEN) | lately | going, base=model)
    chosen = jobs.filter(technique__in=ADAPTERS).values_list("options", flat=True)
    return {options_of_training.parse(options).rank for options in chosen}


def uses_of(model: Model) -> Use:
    """Deployments of the model, of what was trained on it, or that it judges; those that go on need it."""
    made, judges = Q(model=model) | Q(checkpoint__job__base=model), Q(judge=model)
    needing = made & Q(status__in=Deployment.OPEN) | judges & Q(status__in=Deployment.GOING)
    return Use(
        "deployments", Deployment.objects.filter(made | judges).count(), Deployment.objects.filter(needing).count()
    )
