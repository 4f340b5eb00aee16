"""Thumbs up and down in a training file."""

import pytest

from apps.accounts.models import Project
from apps.core import leases
from apps.models.models import Model
from apps.training.files import validation
from tests.training.cast import make_file, make_job, thumb
from tests.training.validating import base, folder, keeper, rows_of, told, uncounted, work

__all__ = ["base", "folder", "keeper", "uncounted"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_thumbs(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    rows = [thumb(number, up=number % 3 > 0) for number in range(12)]
    job = make_job(project, base, make_file(project, rows), method="kto")
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples) == ("queued", 12)
    first = thumb(0, up=False)
    assert rows_of(job, "train.jsonl")[0] == {
        "input": {"messages": first["prompt"]}, "completion": first["completion"], "label": False,
    }  # fmt: skip
    assert not {validation.ONLY_UP, validation.ONLY_DOWN} & set(told(job))


@pytest.mark.parametrize("up", [True, False])
def test_thumbs_of_one_kind_are_taken_with_a_warning(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, up: bool
) -> None:
    rows = [thumb(number, up=up) for number in range(12)]
    job = make_job(project, base, make_file(project, rows), method="kto")
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"
    assert (validation.ONLY_UP if up else validation.ONLY_DOWN) in told(job)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_thumbs_are_learned_by_no_other_method(
    project: Project, base: Model, keeper: leases.Keeper, method: str
) -> None:
    job = make_job(project, base, make_file(project, [thumb(n, up=n > 3) for n in range(12)]), method=method)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, (job.errors or [])[0]["code"]) == ("failed", "wrong_method")
    assert "create the job with the method 'kto'" in job.message
