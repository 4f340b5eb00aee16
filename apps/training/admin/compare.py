"""Several jobs on one chart, and what was different about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from django.db.models import Min, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from apps.training.admin import job_page
from apps.training.curves import curves_of
from apps.training.models import TrainingJob
from apps.training.options import Options

if TYPE_CHECKING:
    from apps.training.admin.job import JobAdmin

COMPARED = 8  # jobs on one chart
OFFERED = 30
FIXED = ("base_name", "method", "technique", "training_file_uid", "examples")
TITLES = {"base_name": "base model", "training_file_uid": "training file"}


class Comparison:
    """Its view, for the admin of jobs."""

    def __init__(self, pages: JobAdmin) -> None:
        self._pages = pages

    def view(self, request: HttpRequest) -> TemplateResponse:
        """Of `?job=ftjob-…&job=ftjob-…`; what the user may not see is left out."""
        wanted = [uid for uid in request.GET.getlist("job") if "\0" not in uid][:COMPARED]
        rows = self._pages.get_queryset(request)
        found = {job.uid: job for job in rows.filter(uid__in=wanted)}
        jobs = [found[uid] for uid in dict.fromkeys(wanted) if uid in found]
        best = best_losses(rows.filter(pk__in=[job.pk for job in jobs]))
        context = {
            "jobs": [
                {"job": job, "label": label(job), "method": job_page.method_of(job), **best.get(job.pk, {})}
                for job in jobs
            ],
            "series": [_series(job) for job in jobs],
            "differences": differences(jobs),
            "offered": [(job, job.uid in found) for job in rows.exclude(step=0)[:OFFERED]],
        }
        return self._pages.page(request, "compare", "Compare trainings", context)


def best_losses(jobs: QuerySet[Any]) -> dict[int, dict[str, float]]:
    """By the job's key."""
    lowest = jobs.values("pk").annotate(loss=Min("metrics__loss"), valid_loss=Min("metrics__valid_loss")).order_by()
    return {row["pk"]: {"loss": row["loss"], "valid_loss": row["valid_loss"]} for row in lowest}


def differences(jobs: list[TrainingJob]) -> list[tuple[str, list[Any]]]:
    """(what, its value for each job), where not all are the same."""
    usual = msgspec.structs.asdict(Options())
    options = [usual | job.options for job in jobs]
    rows = [(TITLES.get(name, name), [getattr(job, name) for job in jobs]) for name in FIXED]
    names = dict.fromkeys(name for each in options for name in each)
    rows += [(name, [_plain(each.get(name, "")) for each in options]) for name in names]
    return [(name, values) for name, values in rows if len({str(value) for value in values}) > 1]


def label(job: TrainingJob) -> str:
    return job.suffix or job.uid[-8:]


def _series(job: TrainingJob) -> dict[str, Any]:
    curves = curves_of(job)
    shown = {name: curves.points.get(name, []) for name in ("loss", "valid_loss")}
    return {"id": job.uid, "label": label(job), "last": curves.last, "mean": curves.mean, **shown}


def _plain(value: Any) -> Any:
    """32 and 32.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
