"""Where training announces itself to the layers below, which know it only by these names."""

from apps.core import duties
from apps.events import progress
from apps.models import claims, jobs, removal
from apps.training.deployments import files as deployed
from apps.training.deployments import services as deployments
from apps.training.deployments.placing import place_next
from apps.training.deployments.progress import DeploymentTopic
from apps.training.deployments.proving import ParityKind, settle_deployments
from apps.training.files.validation import purge_prepared, validate_next
from apps.training.progress import TrainingTopic
from apps.training.services import TOPIC
from apps.training.uses import uses_of
from apps.training.work import TrainingKind, go_on_where_there_is_room


def register() -> None:
    jobs.register("training", TrainingKind())
    duties.register("go on where there is room", go_on_where_there_is_room)
    duties.register("validate training files", validate_next)
    duties.register("purge prepared training files", purge_prepared)
    progress.register(TOPIC, TrainingTopic())
    removal.register("training", uses_of)
    jobs.register("parity", ParityKind())
    duties.register("place deployments", place_next)
    duties.register("settle deployments", settle_deployments)
    progress.register(deployments.TOPIC, DeploymentTopic())
    removal.register("deployments", deployed.uses_of)
    claims.register(
        "deployments",
        unready=deployed.unready_models,
        why_kept=deployed.why_kept,
        ranks=deployed.coming_ranks,
    )
