"""The big run that plans are measured on: what is kept beside its items is what the product would keep."""

from typing import Any

import pytest

from apps.accounts.models import Project
from apps.datasets import items
from apps.datasets.models import Run
from apps.datasets.reviews import matrix
from apps.datasets.reviews.filters import Filters
from tests.datasets.big import make_big_run
from tests.datasets.cast import make_reviewer

pytestmark = pytest.mark.django_db
SIZE = 2_000
FACTS = (
    "number", "answered", "failed", "differs", "shortest", "longest", "starred", "rejected", "edited", "rating",
    "judge_score", "reviews",
)  # fmt: skip


@pytest.fixture
def run(project: Project) -> Run:
    return make_big_run(project, ada=make_reviewer(project, "ada"), ben=make_reviewer(project, "ben"), examples=SIZE)


def facts(run: Run) -> list[Any]:
    return list(run.items.order_by("number").values_list(*FACTS))


def test_it_works(run: Run) -> None:
    made = facts(run)
    assert len(made) == SIZE
    examples = list(run.items.values_list("example", flat=True))
    columns = list(run.columns.values_list("answered", "failed"))
    items.refresh_answers(run.pk, examples)
    items.refresh_reviews(examples)
    items.refresh_scores(run.pk, run.judges.get().pk, examples)
    items.refresh_columns([column.pk for column in run.columns.all()])
    assert facts(run) == made
    assert list(run.columns.values_list("answered", "failed")) == columns


def test_words_are_as_frequent_as_they_should_be(run: Run) -> None:
    found = {word: matrix.count(run, filters=Filters(text=word), reviewer=None).value for word in ("w1", "only17")}
    assert found["only17"] == 1
    assert (found["w1"] or 0) > 0.9 * SIZE
