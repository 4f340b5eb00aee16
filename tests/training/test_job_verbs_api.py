"""Cancel, pause, resume and retry at /v1/fine_tuning/jobs."""

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches.models import File
from apps.models.models import Model
from apps.training.models import TrainingJob
from tests.training.cast import make_job
from tests.training.jobs_api import PATH, refused

pytestmark = pytest.mark.django_db


def test_cancel(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    cancelled = api.post(f"{PATH}/{job.uid}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["finished_at"] >= cancelled["created_at"]
    assert api.post(f"{PATH}/{job.uid}/cancel").json() == cancelled  # it is what was asked for


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_it_rejects_to_cancel_what_has_ended(api: APIClient, project: Project, model: Model, status: str) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status(status))
    refused(api.post(f"{PATH}/{job.uid}/cancel"), 409)


def test_pause_and_resume(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status.QUEUED)
    paused = api.post(f"{PATH}/{job.uid}/pause").json()
    assert (paused["status"], paused["paused"]) == ("queued", True)
    refused(api.post(f"{PATH}/{job.uid}/pause"), 409)
    resumed = api.post(f"{PATH}/{job.uid}/resume").json()
    assert (resumed["status"], resumed["paused"]) == ("queued", False)
    refused(api.post(f"{PATH}/{job.uid}/resume"), 409)


def test_retry(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    refused(api.post(f"{PATH}/{job.uid}/retry"), 409)
    job.advance(TrainingJob.Status.FAILED)
    again = api.post(f"{PATH}/{job.uid}/retry").json()
    assert (again["retry_of"], again["status"]) == (job.uid, "validating_files")
    assert TrainingJob.objects.get(uid=again["id"]).api_key is not None
    File.objects.all().delete()
    assert "was deleted" in api.post(f"{PATH}/{job.uid}/retry").json()["error"]["message"]


def test_a_job_that_runs_says_that_it_shall_pause(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status.QUEUED)
    job.advance(TrainingJob.Status.RUNNING)
    paused = api.post(f"{PATH}/{job.uid}/pause").json()
    assert (paused["status"], paused["paused"]) == ("running", True)
