"""What a page of the list of jobs shows besides the jobs' own rows, in a constant number of queries."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.views import ChangeList

from apps.training.curves import Point, sparks_of
from apps.training.models import Deployment, TrainingJob

WIDTH, HEIGHT = 80, 28  # pixels of a small curve


class JobList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """With the small curve and the latest deployment of each job on this page."""
        super().get_results(request)
        jobs: list[Any] = list(self.result_list)  # type: ignore[has-type]
        sparks, deployments = sparks_of(jobs), _deployments(jobs)
        for job in jobs:
            job.spark = sparks.get(job.pk, [])
            job.deployment = deployments.get(job.pk)
        self.result_list = jobs


def _deployments(jobs: list[TrainingJob]) -> dict[int, Deployment]:
    """The latest of each job, by the job's key."""
    rows = Deployment.objects.filter(checkpoint__job__in=jobs).select_related("checkpoint")
    latest = rows.order_by("checkpoint__job_id", "-id").distinct("checkpoint__job_id").defer("parity")
    return {row.checkpoint.job_id: row for row in latest}


def progress_of(job: TrainingJob) -> dict[str, Any]:
    """Of its row alone: what static/js/training.js then moves on."""
    return {
        "id": job.uid,
        "status": job.status,
        "status_label": job.get_status_display(),
        "final": job.status in job.ENDED,
        "completed": job.step,
        "total": job.steps,
        "share": f"{100 * min(job.step / job.steps, 1) if job.steps else 0:.2f}",
    }


def spark_html(points: list[Point]) -> str:
    """The last loss, with the curve that led there; empty without any."""
    if not points:
        return ""
    last = points[-1][1]
    return format_html(
        '<span class="tr-spark">{}<b data-field="loss">{}</b></span>',
        _svg(points),
        f"{last:.3f}" if last < 100 else f"{last:.3g}",
    )


def _svg(points: list[Point]) -> SafeString:
    if len(points) < 2:
        return SafeString("")
    first, last = points[0][0], points[-1][0]
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    path = " ".join(
        f"{2 + (WIDTH - 4) * (step - first) / (last - first):.1f},"
        f"{2 + (HEIGHT - 4) * ((high - loss) / (high - low) if high > low else 0.5):.1f}"
        for step, loss in points
    )
    return format_html(
        '<svg width="{}" height="{}" viewBox="0 0 {} {}" role="img" aria-label="{}"><polyline points="{}"/></svg>',
        WIDTH, HEIGHT, WIDTH, HEIGHT, f"Loss from {points[0][1]:.3g} to {points[-1][1]:.3g}", path,
    )  # fmt: skip
