"""/v1/fine_tuning/jobs/{id}/events, /checkpoints and /progress."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.models import TrainingJob
from apps.training.services import note
from tests.training.cast import make_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(project: Project, model: Model) -> TrainingJob:
    return make_job(project, model)


def get(api: APIClient, job: TrainingJob, part: str, **query: Any) -> Any:
    return api.get(f"/v1/fine_tuning/jobs/{job.uid}/{part}", query)


def checkpoint(job: TrainingJob, step: int, **metrics: float) -> None:
    job.checkpoints.create(step=step, path=f"/x/{step}", digest="d", bytes=10)
    if metrics:
        job.metrics.create(step=step, **metrics)


def test_it_works(api: APIClient, job: TrainingJob) -> None:
    note(job, "It went wrong.", level="warn", data={"step": 3})
    page = get(api, job, "events").json()
    newest, oldest = page["data"]
    assert {key: newest[key] for key in ("object", "level", "message", "type", "data")} == {
        "object": "fine_tuning.job.event", "level": "warn", "message": "It went wrong.", "type": "message",
        "data": {"step": 3},
    }  # fmt: skip
    assert newest["id"].startswith("ftevent-")
    assert oldest["message"].startswith("Created fine-tuning job")
    assert (page["object"], page["has_more"]) == ("list", False)


def test_events_are_paged_through(api: APIClient, job: TrainingJob) -> None:
    for number in range(5):
        note(job, f"Event {number}.")
    first = get(api, job, "events", limit=2).json()
    assert ([event["message"] for event in first["data"]], first["has_more"]) == (["Event 4.", "Event 3."], True)
    after = get(api, job, "events", limit=2, after=first["last_id"]).json()
    assert [event["message"] for event in after["data"]] == ["Event 2.", "Event 1."]
    assert get(api, job, "events", after="ftevent-none").status_code == 400


def test_checkpoints_with_what_was_measured(api: APIClient, project: Project, job: TrainingJob) -> None:
    checkpoint(job, 5, loss=1.5, token_accuracy=0.5, valid_loss=1.75, valid_token_accuracy=0.25)
    checkpoint(job, 10)
    last, first = get(api, job, "checkpoints").json()["data"]
    assert first["object"] == "fine_tuning.job.checkpoint"
    assert first["id"].startswith("ftckpt_")
    assert (first["fine_tuning_job_id"], first["step_number"], first["best"]) == (job.uid, 5, False)
    assert first["fine_tuned_model_checkpoint"] == f"{job.model_name}:ckpt-step-5"
    assert first["metrics"] == {
        "step": 5, "train_loss": 1.5, "train_mean_token_accuracy": 0.5, "valid_loss": 1.75,
        "valid_mean_token_accuracy": 0.25, "full_valid_loss": 1.75, "full_valid_mean_token_accuracy": 0.25,
    }  # fmt: skip
    assert last["metrics"] == {**dict.fromkeys(first["metrics"]), "step": 10}


def test_checkpoints_with_the_rewards_of_thumbs(api: APIClient, job: TrainingJob) -> None:
    """Only there where there are some: a supervised job's shape is OpenAI's."""
    checkpoint(job, 5, loss=0.5, reward_margin=1.5, valid_reward_margin=1.25, kl=0.125)
    (shown,) = get(api, job, "checkpoints").json()["data"]
    assert shown["metrics"]["rewards"] == {
        "train_reward_margin": 1.5, "train_kl": 0.125, "valid_reward_margin": 1.25,
    }  # fmt: skip


def test_checkpoints_are_paged_through(api: APIClient, job: TrainingJob) -> None:
    for step in range(1, 13):
        checkpoint(job, step)
    first = get(api, job, "checkpoints").json()
    assert ([each["step_number"] for each in first["data"]], first["has_more"]) == ([*range(12, 2, -1)], True)
    rest = get(api, job, "checkpoints", after=first["last_id"]).json()
    assert [each["step_number"] for each in rest["data"]] == [2, 1]


def test_a_page_costs_the_same_however_many_checkpoints(api: APIClient, job: TrainingJob) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert get(api, job, "checkpoints").status_code == 200
        return len(captured)

    checkpoint(job, 1, loss=1)
    queries()  # the first notes that the key was used
    one = queries()
    for step in range(2, 10):
        checkpoint(job, step, loss=1)
    assert queries() == one


@pytest.mark.parametrize("part", ["events", "checkpoints", "progress"])
def test_a_stranger_sees_nothing(stranger: APIClient, job: TrainingJob, part: str) -> None:
    assert get(stranger, job, part).status_code == 404


@pytest.mark.parametrize("part", ["events", "checkpoints"])
@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"order": "up"}, {"after": "\0"}])
def test_it_rejects_a_bad_query(api: APIClient, job: TrainingJob, part: str, query: dict[str, Any]) -> None:
    assert get(api, job, part, **query).status_code == 400


def test_progress_is_a_stream(api: APIClient, job: TrainingJob) -> None:
    """What comes by it is tested with the live site."""
    answer = get(api, job, "progress")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    assert answer.streaming
