"""What watchers of a job see, and when it will be done."""

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from apps.accounts.models import Project
from apps.core.waiting import with_reason
from apps.events import progress
from apps.training.models import Metric, TrainingJob

RECENT = 20  # steps from which the pace is taken


class TrainingTopic:
    """See `apps.events.progress.Topic`."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        jobs = TrainingJob.objects.filter(uid=uid)
        return bool((jobs.of(who) if isinstance(who, Project) else jobs.visible_to(who)).exists())

    def snapshot(self, uid: str) -> progress.Snapshot | None:
        job = TrainingJob.objects.select_related("device").filter(uid=uid).first()
        return None if job is None else snapshot_of(job)


def snapshot_of(job: TrainingJob) -> progress.Snapshot:
    recent = list(job.metrics.order_by("-step")[:RECENT])
    latest = next((metric for metric in recent if metric.loss is not None), Metric())
    checked = job.metrics.exclude(valid_loss=None).order_by("-step").first()
    finish = _finish(job, recent)
    snapshot = {
        "id": job.uid,
        "object": "training.progress",
        "status": job.status,
        "status_label": job.get_status_display(),
        "final": job.status in job.ENDED,
        "message": job.message,
        "plan": " ".join(filter(None, (job.plan.get("reason"), job.plan.get("warning")))),
        "total": job.steps,
        "completed": job.step,
        "epoch": latest.epoch,
        "loss": latest.loss,
        "valid_loss": checked.valid_loss if checked else None,
        "learning_rate": latest.learning_rate,
        "tokens_per_second": latest.tokens_per_second,
        "memory_bytes": latest.memory_bytes,
        "checkpoints": job.checkpoints.count(),
        "device": str(job.device) if job.device else "",
        "created_at": int(job.created_at.timestamp()),
        "ended_at": int(job.ended_at.timestamp()) if job.ended_at else None,
        "estimated_finish": int(finish.timestamp()) if finish else None,
    }
    return with_reason(snapshot, *(f"{kind}:{job.pk}" for kind in ("training-files", "training", "room")))


def eta(job: TrainingJob) -> datetime | None:
    """When the job will be done, if it goes on as it does; None while it does not."""
    return _finish(job, list(job.metrics.order_by("-step")[:RECENT]))


def _finish(job: TrainingJob, recent: list[Metric]) -> datetime | None:
    """By the pace of the latest steps, the latest first."""
    if job.status != job.Status.RUNNING or len(recent) < 2 or recent[0].at == recent[-1].at:
        return None
    pace = (recent[0].at - recent[-1].at).total_seconds() / (recent[0].step - recent[-1].step)
    return timezone.now() + timedelta(seconds=max(pace * (job.steps - job.step), 0))
