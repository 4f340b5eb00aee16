"""What the buttons on the page of a job do: each calls a service and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.tenant_admin import signed_in
from apps.core.errors import Conflict, DomainError
from apps.training import services
from apps.training.models import TrainingJob

if TYPE_CHECKING:
    from apps.training.admin.job import JobAdmin


class JobVerbs:
    """Its view, for the admin of jobs."""

    def __init__(self, pages: JobAdmin) -> None:
        self._pages = pages
        self._verbs = {"cancel": _cancel, "pause": _pause, "resume": _resume, "retry": _retry}

    def view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        job = self._pages.find(request, pk)
        if verb not in self._verbs or not self._pages.may_change(request, job):
            raise Http404("No such action.")
        try:
            shown, said = self._verbs[verb](request, job)
            messages.success(request, said)
        except DomainError as error:
            messages.error(request, error.message)
            shown = job
        return HttpResponseRedirect(reverse("admin:training_trainingjob_change", args=[shown.pk]))


def _cancel(_request: HttpRequest, job: TrainingJob) -> tuple[TrainingJob, str]:
    if not services.cancel_job(job=job):
        raise Conflict(f"The job is {_status(job)}: there is nothing to cancel.")
    return job, "It is being stopped. Its checkpoints are kept."


def _pause(_request: HttpRequest, job: TrainingJob) -> tuple[TrainingJob, str]:
    if not services.pause_job(job=job):
        raise Conflict(f"The job is {_status(job)}: there is nothing to pause.")
    return job, "It saves what it has learned, then lets go of its device."


def _resume(_request: HttpRequest, job: TrainingJob) -> tuple[TrainingJob, str]:
    if not services.resume_job(job=job):
        raise Conflict(f"The job is {_status(job)}: only a paused one goes on.")
    return job, "It goes on from its last checkpoint as soon as a device is free."


def _retry(request: HttpRequest, job: TrainingJob) -> tuple[TrainingJob, str]:
    return services.retry_job(job=job, created_by=signed_in(request)), "The same again, as a new job: this is its page."


def _status(job: TrainingJob) -> str:
    job.refresh_from_db()
    return job.status.replace("_", " ")
