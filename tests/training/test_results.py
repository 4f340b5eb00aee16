"""The result file."""

import csv
import io
import math

import pytest
from django.db import transaction

from apps.accounts.models import Project
from apps.batches.models import File
from apps.models.models import Model
from apps.training import results
from apps.training.models import Metric
from apps.training.results import write_results
from tests.training.cast import make_job

pytestmark = pytest.mark.django_db

HEADER = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"


def content(file: File) -> str:
    with file.content.open("rb") as stored:
        return str(stored.read().decode())


def test_it_works(project: Project, model: Model) -> None:
    job = make_job(project, model)
    Metric.objects.create(job=job, step=2, loss=1.25, token_accuracy=0.5, valid_loss=1.5, valid_token_accuracy=0.4)
    Metric.objects.create(job=job, step=1, loss=2.0000000001)
    Metric.objects.create(job=make_job(project, model), step=1, loss=9)
    file = write_results(job)
    assert content(file) == f"{HEADER}\n1,2,,,\n2,1.25,0.5,1.5,0.4\n"
    assert (file.project, file.purpose, file.filename) == (project, "fine-tune-results", f"{job.uid}-results.csv")
    assert file.bytes == len(content(file))
    assert file.expires_at is None


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_rewards_stand_beside(project: Project, model: Model, method: str) -> None:
    job = make_job(project, model)
    job.method = method
    Metric.objects.create(job=job, step=1, loss=0.5, reward_margin=1.5, valid_reward_chosen=-0.25, kl=0.125)
    (row,) = csv.DictReader(io.StringIO(content(write_results(job))))
    assert {name: value for name, value in row.items() if value} == {
        "step": "1", "train_loss": "0.5", "train_reward_margin": "1.5", "valid_reward_chosen": "-0.25",
        "train_kl": "0.125",
    }  # fmt: skip
    assert {"train_reward_rejected", "train_reward_accuracy", "valid_reward_margin", "valid_kl"} < set(row)


def test_the_same_measurements_give_the_same_bytes(project: Project, model: Model) -> None:
    job = make_job(project, model)
    Metric.objects.create(job=job, step=1, loss=1 / 3)
    first, second = write_results(job), write_results(job)
    assert first.sha256 == second.sha256
    assert first.content != second.content


def test_a_long_job(project: Project, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row once, whatever it is cut into."""
    monkeypatch.setattr(results, "ROWS", 7)
    job = make_job(project, model)
    Metric.objects.bulk_create(Metric(job=job, step=step, loss=1 / step) for step in range(1, 101))
    rows = list(csv.DictReader(io.StringIO(content(write_results(job)))))
    assert [int(row["step"]) for row in rows] == list(range(1, 101))
    assert all(math.isclose(float(row["train_loss"]), 1 / int(row["step"]), rel_tol=1e-5) for row in rows)


def test_a_job_that_measured_nothing(project: Project, model: Model) -> None:
    assert content(write_results(make_job(project, model))) == f"{HEADER}\n"


def test_it_is_taken_back_with_its_transaction(project: Project, model: Model) -> None:
    job = make_job(project, model)
    with transaction.atomic():
        write_results(job)
        transaction.set_rollback(True)
    assert not File.objects.filter(purpose="fine-tune-results").exists()
