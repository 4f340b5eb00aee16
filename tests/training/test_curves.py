"""Curves are as short as a chart needs, and lose no peak."""

import math
import time

import pytest

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.curves import SPARKS, STRETCHES, curves_of, sparks_of
from apps.training.models import Metric, TrainingJob
from tests.training.trained import make_trained

pytestmark = pytest.mark.django_db


def test_it_works(project: Project, model: Model) -> None:
    job = make_trained(project, model)
    curves = curves_of(job)
    assert (curves.first, curves.last, curves.width) == (1, 120, 1)
    measured = list(job.metrics.values_list("step", "loss"))
    assert curves.points["loss"] == curves.mean == measured
    assert [step for step, _ in curves.points["valid_loss"]] == list(range(10, 121, 10))


def test_a_long_curve_keeps_its_peaks(project: Project, model: Model) -> None:
    job = make_trained(project, model, done=10_000, steps=10_000)
    job.metrics.filter(step=4321).update(loss=99.0)
    job.metrics.filter(step=7654).update(loss=-5.0)
    began = time.monotonic()
    curves = curves_of(job)
    assert time.monotonic() - began < 2
    assert {(4321, 99.0), (7654, -5.0)} <= set(curves.points["loss"])
    assert all(len(points) <= 2 * STRETCHES for points in curves.points.values())
    assert len(curves.mean) <= STRETCHES
    assert curves.points["loss"] == sorted(curves.points["loss"])


@pytest.mark.parametrize(
    ("method", "has", "lacks"), [("dpo", "reward_accuracy", "kl"), ("kto", "kl", "reward_accuracy")]
)
def test_preferences_and_thumbs_have_their_rewards(
    project: Project, model: Model, method: str, has: str, lacks: str
) -> None:
    job = make_trained(project, model, method=method)
    points = curves_of(job).points
    assert points["reward_margin"] == list(job.metrics.values_list("step", "reward_margin"))
    assert [step for step, _ in points["valid_reward_margin"]] == list(range(10, 121, 10))
    assert (len(points["reward_chosen"]), len(points["reward_rejected"])) == (120, 120)
    assert (len(points[has]), points[lacks]) == (120, [])


def test_supervised_training_has_no_rewards(project: Project, model: Model) -> None:
    assert not [name for name in curves_of(make_trained(project, model)).points if "reward" in name or "kl" in name]


def test_new_points_come_from_a_step_on(project: Project, model: Model) -> None:
    job = make_trained(project, model, done=50)
    curves = curves_of(job, since=50)
    assert [step for step, _ in curves.points["loss"]] == [50]
    assert curves.points["valid_loss"], "its evaluation may come later than the step"
    assert curves_of(job, since=51).last == 0


def test_it_survives_what_is_no_number(project: Project, model: Model) -> None:
    job = make_trained(project, model, done=4)
    for step, loss in ((2, math.nan), (3, math.inf), (4, -math.inf)):
        job.metrics.filter(step=step).update(loss=loss, grad_norm=loss)
    curves = curves_of(job)
    assert [step for step, _ in curves.points["loss"]] == [step for step, _ in curves.mean] == [1]
    assert [step for step, _ in sparks_of([job])[job.pk]] == [1]


def test_small_curves_come_for_all_jobs_at_once(
    project: Project, model: Model, django_assert_num_queries: object
) -> None:
    jobs = [make_trained(project, model, done=done) for done in (0, 1, 7, 120)]
    with django_assert_num_queries(1):  # type: ignore[operator]
        sparks = sparks_of(jobs)
    assert [len(sparks.get(job.pk, [])) for job in jobs] == [0, 1, 7, SPARKS]
    for job in jobs[1:]:
        assert sparks[job.pk][-1] == job.metrics.values_list("step", "loss").last()


def test_a_step_with_an_evaluation_only_ends_no_small_curve(project: Project, model: Model) -> None:
    job = make_trained(project, model, done=5)
    Metric.objects.create(job=job, step=6, valid_loss=1.0)
    assert sparks_of([job])[job.pk][-1][0] == 5
    assert curves_of(job).points["valid_loss"] == [(6, 1.0)]


def test_a_job_without_steps_has_none(project: Project, model: Model) -> None:
    job: TrainingJob = make_trained(project, model, done=0, status="queued")
    assert curves_of(job).points == {}
