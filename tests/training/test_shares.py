"""What follows from how many rows a training file has: epochs, and rows that are kept apart."""

from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core import leases
from apps.models.models import Model
from apps.training.services import duplicate_job
from tests.training.cast import example, make_file, make_job
from tests.training.validating import base, folder, keeper, read, rows_of, told, uncounted, work

__all__ = ["base", "folder", "keeper", "uncounted"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_what_was_not_chosen_follows_the_rows(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    few, many = (
        make_job(project, base, make_file(project, map(example, range(rows))), options={"rank": 4})
        for rows in (40, 3_000)
    )
    work(keeper)
    for job in (few, many):
        job.refresh_from_db()
        assert (job.options["rank"], job.chosen) == (4, {"rank": 4})
        assert job.plan["held_out"] == round(job.options["held_out_share"] * (job.examples + job.plan["held_out"]))
        assert f"{job.options['epochs']:g} epochs" in job.plan["reason"]
        assert told(job)[-1] == job.plan["reason"]
    assert few.options["epochs"] > many.options["epochs"]
    assert few.options["accumulation"] < many.options["accumulation"]
    again = duplicate_job(job=few, training_file=many.training_file)
    work(keeper)
    again.refresh_from_db()
    assert (again.options, again.plan) == (many.options, many.plan), "found anew, for its own rows"


@pytest.mark.parametrize(
    ("options", "parts"),
    [({}, (19, 0, 0)), ({}, (14, 0, 6)), ({}, (34, 0, 6)), ({}, (108, 0, 12)), ({}, (884, 0, 16)),
     ({"held_out_share": 0}, (40, 0, 0)), ({"held_out_share": 0.5}, (20, 0, 20)), ({"held_out_share": 0.1}, (11, 0, 1)),
     ({"validation_share": 0.1}, (36, 4, 0)), ({"validation_share": 0.1, "held_out_share": 0.2}, (28, 4, 8))],
)  # fmt: skip
def test_some_rows_are_held_out_for_a_deployment(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, options: dict[str, Any],
    parts: tuple[int, int, int],
) -> None:  # fmt: skip
    rows, (learned, validates, held_out) = sum(parts), parts
    job = make_job(project, base, make_file(project, map(example, range(rows))), options=options)
    work(keeper)
    job.refresh_from_db()
    assert (job.examples, job.valid_examples, job.plan["held_out"]) == (learned, validates, held_out)
    kept = read(job, "train.jsonl") + (read(job, "valid.jsonl") if validates else [])
    assert len(kept) == rows - held_out
    assert len({row["messages"][0]["content"] for row in kept}) == len(kept), "each once"
    assert (job.folder / "valid.jsonl").exists() == bool(validates)
    assert any(f"{held_out} more are held out" in message for message in told(job)) == bool(held_out)


def test_a_training_that_is_too_short_is_said_to_be(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    job = make_job(project, base, options={"epochs": 3}, hyperparameters={"learning_rate_multiplier": 0.5})
    work(keeper)
    job.refresh_from_db()
    last = job.events.latest("pk")
    assert (last.level, last.message) == ("warn", job.plan["warning"])
    assert "18 steps at a learning rate of 0.0005 can hardly teach" in last.message
    assert job.options["epochs"] == 3, "and is done as it was set"


def test_the_share_is_chosen_by_the_seed(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    file = make_file(project, map(example, range(200)))
    seeds = (1, 1, 2)
    jobs = [make_job(project, base, file, options={"validation_share": 0.1, "seed": seed}) for seed in seeds]
    work(keeper)
    apart = [rows_of(job, "valid.jsonl") for job in jobs]
    assert apart[0] == apart[1] != apart[2]
    for job, valid in zip(jobs, apart, strict=True):
        job.refresh_from_db()
        train = rows_of(job, "train.jsonl")
        assert (job.examples, job.valid_examples, len(train), len(valid)) == (180, 20, 180, 20)
        assert sorted(map(str, train + valid)) == sorted(str(example(number)) for number in range(200))
        assert valid != [example(number) for number in range(20)]


@pytest.mark.parametrize(("share", "apart"), [(0.001, 1), (0.5, 6)])
def test_a_share_is_one_row_at_least(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, share: float, apart: int
) -> None:
    job = make_job(project, base, options={"validation_share": share})
    work(keeper)
    job.refresh_from_db()
    assert (job.examples, job.valid_examples) == (12 - apart, apart)
