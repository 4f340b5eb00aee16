"""/v1/fine_tuning/jobs: what a job is shown as."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project
from apps.models.models import Model
from apps.training.models import TrainingJob
from tests.training.cast import make_file, make_job
from tests.training.jobs_api import PATH, form, post, refused

__all__ = ["form"]
pytestmark = pytest.mark.django_db

OPENAIS = {
    "id", "object", "created_at", "finished_at", "model", "fine_tuned_model", "organization_id", "result_files",
    "status", "trained_tokens", "training_file", "validation_file", "hyperparameters", "seed", "error",
    "estimated_finish", "integrations", "method", "metadata",
}  # fmt: skip
OURS = {
    "paused", "technique", "options", "step", "steps", "message", "file_errors", "bad_rows", "errors_file_id",
    "left_out", "left_out_file_id", "estimate", "retry_of", "plan",
}  # fmt: skip


def test_it_works(api: APIClient, project: Project, form: dict[str, Any]) -> None:
    made = post(api, {**form, "suffix": "capitals", "metadata": {"team": "a"}}).json()
    assert set(made) == OPENAIS | OURS
    assert made["object"] == "fine_tuning.job"
    assert made["id"].startswith("ftjob-")
    assert (made["status"], made["paused"], made["model"]) == ("validating_files", False, form["model"])
    assert (made["training_file"], made["organization_id"]) == (form["training_file"], project.uid)
    assert made["hyperparameters"] == {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert made["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": made["hyperparameters"]},
        "dpo": None,
        "reinforcement": None,
    }
    assert (made["seed"], made["technique"], made["metadata"]) == (3407, "lora", {"team": "a"})
    assert made["result_files"] == made["integrations"] == made["file_errors"] == []
    nulls = {key for key, value in made.items() if value is None}
    assert nulls == {
        "finished_at", "fine_tuned_model", "trained_tokens", "validation_file", "error", "estimated_finish", "retry_of",
        "plan", "errors_file_id", "left_out_file_id",
    }  # fmt: skip
    assert api.get(f"{PATH}/{made['id']}").json() == made
    job = TrainingJob.objects.get()
    assert (job.suffix, job.api_key) == ("capitals", ApiKey.objects.get())


def test_the_same_idempotency_key_makes_one_job(api: APIClient, form: dict[str, Any]) -> None:
    first, second = (post(api, form, Idempotency_Key="once").json() for _ in range(2))
    assert first == second
    assert TrainingJob.objects.count() == 1
    assert refused(post(api, {**form, "seed": 1}, Idempotency_Key="once"), 409)[1] == "idempotency_key_reused"


def test_a_stranger_sees_nothing(stranger: APIClient, project: Project, model: Model) -> None:
    uid = make_job(project, model).uid
    assert stranger.get(PATH).json()["data"] == []
    verbs = [("post", f"/{verb}") for verb in ("cancel", "pause", "resume", "retry")]
    for method, path in [("get", ""), ("get", "/events"), *verbs]:
        answer = getattr(stranger, method)(f"{PATH}/{uid}{path}")
        assert refused(answer, 404) == ("id", "fine_tuning_job_not_found")


def test_a_job_that_failed(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    errors = [{"file": job.training_file_uid, "line": 3, "code": "invalid_json", "message": "It is not JSON."}]
    job.advance(
        TrainingJob.Status.FAILED, message="It is bad.", error_code="invalid_training_file",
        error_param="training_file", errors=errors,
    )  # fmt: skip
    shown = api.get(f"{PATH}/{job.uid}").json()
    assert shown["error"] == {"code": "invalid_training_file", "message": "It is bad.", "param": "training_file"}
    assert shown["file_errors"] == errors
    assert shown["fine_tuned_model"] is None


def test_a_job_that_succeeded(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model, suffix="capitals")
    file = make_file(project)
    job.advance(TrainingJob.Status.SUCCEEDED, result_file=file, trained_tokens=1234, message="Trained.")
    shown = api.get(f"{PATH}/{job.uid}").json()
    assert shown["fine_tuned_model"] == job.model_name
    assert shown["fine_tuned_model"].startswith(f"ft:{model.name}:")
    assert ":capitals:" in shown["fine_tuned_model"]
    assert (shown["result_files"], shown["trained_tokens"], shown["error"]) == ([file.uid], 1234, None)
    assert shown["estimated_finish"] is None
    file.delete()
    assert api.get(f"{PATH}/{job.uid}").json()["result_files"] == []


def test_a_job_that_runs_says_when_it_will_be_done(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status.RUNNING, step=2, steps=10, trained_tokens=5)
    now = timezone.now()
    for step in (1, 2):
        job.metrics.create(step=step, loss=1, at=now - timedelta(seconds=10 * (2 - step)))
    shown = api.get(f"{PATH}/{job.uid}").json()
    assert abs(shown["estimated_finish"] - now.timestamp() - 80) < 5
    assert (shown["status"], shown["trained_tokens"], shown["step"], shown["steps"]) == ("running", None, 2, 10)
