"""What watchers of a deployment see."""

from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.core.waiting import with_reason
from apps.events import progress
from apps.training.deployments import judged
from apps.training.deployments.files import is_whole_model
from apps.training.models import Deployment

COLUMNS = ("base", "adapter", "merged")


class DeploymentTopic:
    """See `apps.events.progress.Topic`."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        rows = Deployment.objects.filter(uid=uid)
        return bool((rows.of(who) if isinstance(who, Project) else rows.visible_to(who)).exists())

    def snapshot(self, uid: str) -> progress.Snapshot | None:
        row = Deployment.objects.select_related("checkpoint__job").filter(uid=uid).first()
        return None if row is None else snapshot_of(row)


def snapshot_of(deployment: Deployment) -> progress.Snapshot:
    """`total` and `completed` count prompts that are asked, and answers that are judged."""
    parity = deployment.parity
    scores = judged.order(parity, judged.column_of(deployment)) if deployment.judge_name else ()
    models = 2 if deployment.kind == Deployment.Kind.ADAPTER or is_whole_model(deployment.checkpoint) else 3
    snapshot = {
        "id": deployment.uid,
        "object": "deployment.progress",
        "status": deployment.status,
        "status_label": deployment.get_status_display(),
        "final": deployment.status not in Deployment.GOING,
        "name": deployment.name,
        "message": deployment.message,
        "total": models * len(parity.get("prompts", ())) + len(scores),
        "completed": sum(len(parity.get(column, ())) for column in (*COLUMNS, judged.SCORES)),
        "created_at": int(deployment.created_at.timestamp()),
        "ended_at": int(deployment.ended_at.timestamp()) if deployment.ended_at else None,
    }
    return with_reason(snapshot, f"deployment:{deployment.pk}", f"parity:{deployment.pk}")
