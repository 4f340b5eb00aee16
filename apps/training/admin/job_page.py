"""What the page of one job shows, as plain values for its templates and its script."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from django.core.paginator import Paginator
from django.urls import reverse

from apps.datasets.admin.view import whole_number
from apps.training import progress
from apps.training.admin.option_fields import DESCRIPTIONS
from apps.training.curves import curves_of
from apps.training.deployments.evaluation import Result, results
from apps.training.lineage import lineage
from apps.training.models import Checkpoint, Deployment, Evaluation, TrainingJob
from apps.training.options import Options
from apps.training.services import RETRYABLE

EVENTS = 50  # on the job's page, and on a page of all of them
CHECKPOINTS = 100
DEPLOYMENTS = 20
EVALUATIONS = 3
ACCURACY = ("accuracy", "Token accuracy")
REWARDS = (("rewards", "Rewards"), ("margin", "Margin of the rewards"))
MORE_CHARTS = {
    "sft": (ACCURACY,),
    "dpo": (*REWARDS, ("reward_accuracy", "Pairs in the right order"), ACCURACY),
    "kto": (*REWARDS, ("kl", "Distance from the base model (KL)")),
}
"""By the job's method; see static/js/training/job.js."""
CHARTS = (
    ("rate", "Learning rate"),
    ("norm", "Gradient norm"),
    ("speed", "Tokens/s on the device"),
    ("memory", "Memory of the device"),
)

COLUMNS = (
    ("loss", "Loss"),
    ("valid_loss", "Validation loss"),
    ("token_accuracy", "Token accuracy"),
    ("learning_rate", "Learning rate"),
    ("grad_norm", "Gradient norm"),
)
REWARD_COLUMNS = (
    ("reward_chosen", "Reward, good"),
    ("reward_rejected", "Reward, bad"),
    ("reward_margin", "Margin"),
    ("valid_reward_margin", "Validation margin"),
)

Status = TrainingJob.Status
TECHNIQUES = {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}


def detail(job: TrainingJob, *, may_change: bool) -> dict[str, Any]:
    """In a constant number of queries."""
    checkpoints = checkpoints_of(job)
    deployments = deployments_of(job)
    for row in checkpoints:
        row["deployments"] = [each for each in deployments if each.checkpoint_id == row["checkpoint"].pk]
    best = next((row["checkpoint"] for row in checkpoints if row["best"] == "best"), None)
    events = list(job.events.all()[: EVENTS + 1])
    return {
        "job": job,
        "method": method_of(job),
        "progress": shown(job),
        "points": {**_curves(job), "checkpoints": _marks(checkpoints)},
        "checkpoints": checkpoints,
        "charts": MORE_CHARTS[job.method] + CHARTS,
        "columns": COLUMNS + (REWARD_COLUMNS if job.method in job.HAS_REWARDS else ()),
        "best": best,
        "best_deployment": next((each for each in deployments if best and _serves(each, best)), None),
        "deployments": deployments,
        "evaluations": evaluations_of([each.pk for each in deployments]),
        "events": events[:EVENTS],
        "more_events": len(events) > EVENTS,
        "options": options_of(job),
        "verbs": verbs_of(job) if may_change else {},
        "may_change": may_change,
    }


def shown(job: TrainingJob) -> dict[str, Any]:
    """The first state of what static/js/training.js then moves on."""
    snapshot = progress.snapshot_of(job)
    finish = snapshot["estimated_finish"]
    return {
        **snapshot,
        "share": f"{100 * min(job.step / job.steps, 1) if job.steps else 0:.2f}",
        "left": max(int(finish - time.time()), 0) if finish else None,
    }


def points(job: TrainingJob, query: Mapping[str, str]) -> dict[str, Any]:
    """Raises `DomainError` for a step that is no number."""
    since = whole_number(query, "after") or 0
    return {**_curves(job, since), "checkpoints": _marks(checkpoints_of(job))}


def events(job: TrainingJob, query: Mapping[str, str]) -> dict[str, Any]:
    return {"job": job, "page": Paginator(job.events.all(), EVENTS).get_page(query.get("page"))}


def checkpoints_of(job: TrainingJob) -> list[dict[str, Any]]:
    """The latest first, each with what was measured at its step; `best` is "best", or "so far" while it goes on."""
    rows = list(job.checkpoints.all()[:CHECKPOINTS])
    measured = {metric.step: metric for metric in job.metrics.filter(step__in=[row.step for row in rows])}
    found: list[dict[str, Any]] = []
    for row in rows:
        row.job = job  # or its name would ask for it again
        metric = measured.get(row.step)
        valid, loss = (metric.valid_loss, metric.loss) if metric else (None, None)
        found.append({"checkpoint": row, "loss": loss, "valid_loss": valid, "best": "best" if row.best else ""})
    if job.status not in job.ENDED:
        measured_ones = [each for each in found if each["valid_loss"] is not None]
        for best in sorted(measured_ones, key=lambda each: each["valid_loss"])[:1]:
            best["best"] = "so far"
    return found


def deployments_of(job: TrainingJob) -> list[Deployment]:
    rows = Deployment.objects.filter(checkpoint__job=job).select_related("checkpoint", "model")
    return list(rows[:DEPLOYMENTS])


def evaluations_of(deployments: list[int]) -> list[Result]:
    """The latest of these deployments, each with how base and tuned did."""
    rows = Evaluation.objects.filter(deployment__in=deployments).select_related("run__dataset")
    return results(list(rows[:EVALUATIONS]))


def lineage_of(job: TrainingJob) -> dict[str, Any]:
    steps = [
        {"title": step.title, "sentence": step.sentence, "url": reverse(step.url, args=[step.pk]) if step.url else ""}
        for step in lineage(job)
    ]
    return {"job": job, "steps": steps}


def options_of(job: TrainingJob) -> list[tuple[str, Any, str]]:
    """(name, value, description), those that are the default too. What was stored is shown as it is."""
    values = msgspec.structs.asdict(Options()) | job.options
    return [(name, _text(value), DESCRIPTIONS.get(name, "")) for name, value in values.items()]


def verbs_of(job: TrainingJob) -> dict[str, bool]:
    """What has a button now."""
    open_ = job.status in job.OPEN and not job.cancel_requested_at
    pausing = job.pause_requested_at is not None
    return {
        "cancel": open_,
        "pause": open_ and job.status != Status.PAUSED and not pausing,
        "resume": open_ and (job.status == Status.PAUSED or pausing),
        "retry": job.status in RETRYABLE and job.base_id is not None and job.training_file_id is not None,
    }


def method_of(job: TrainingJob) -> str:
    """`SFT, LoRA`."""
    return f"{job.method.upper()}, {TECHNIQUES.get(job.technique, job.technique)}"


def _serves(deployment: Deployment, checkpoint: Checkpoint) -> bool:
    going_on = (*Deployment.OPEN, Deployment.Status.READY)
    return deployment.checkpoint_id == checkpoint.pk and deployment.status in going_on


def _curves(job: TrainingJob, since: int = 0) -> dict[str, Any]:
    curves = curves_of(job, since=since)
    return {
        "first": curves.first, "last": curves.last, "width": curves.width, "curves": curves.points, "mean": curves.mean,
    }  # fmt: skip


def _marks(checkpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"step": row["checkpoint"].step, "best": row["best"]} for row in reversed(checkpoints)]


def _text(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
