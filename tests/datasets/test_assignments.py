"""Examples dealt out to reviewers, and what comes next for each."""

from collections import Counter

import pytest
from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.datasets.models import Assignment, Dataset, Example, Run
from apps.datasets.reviews import assignments, locks
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.assignments import assign, next_for
from apps.datasets.reviews.filters import Filters
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db
SIZE = 25


@pytest.fixture
def run(project: Project) -> Run:
    prompts = [f"Question {number}" for number in range(SIZE)]
    return make_run(make_version(project, prompts), {"small": prompts})


@pytest.fixture
def people(project: Project) -> list[User]:
    return [make_reviewer(project, name) for name in ("ada", "ben", "cleo", "dan")]


def dealt(run: Run) -> list[tuple[int, str]]:
    return list(
        Assignment.objects.filter(run=run).order_by("example__number", "pk").values_list(
            "example__number", "reviewer__username"
        )
    )  # fmt: skip


def example(run: Run, number: int) -> Example:
    return Example.objects.select_related("dataset").get(dataset=run.dataset_id, number=number)


def done(run: Run, number: int, reviewer: User) -> None:
    reviews.set_state(example=example(run, number), reviewer=reviewer, state="done")


@pytest.mark.parametrize("overlap", [1, 2, 3, 4])
def test_it_works(run: Run, people: list[User], overlap: int) -> None:
    assert assign(run=run, reviewers=people, overlap=overlap) == SIZE
    rows = dealt(run)
    assert Counter(number for number, _ in rows) == dict.fromkeys(range(1, SIZE + 1), overlap)
    shares = Counter(name for _, name in rows).values()
    assert max(shares) - min(shares) <= 1
    assert assign(run=run, reviewers=people, overlap=overlap) == SIZE
    assert dealt(run) == rows


def test_everybody_meets_everybody(run: Run, people: list[User]) -> None:
    assign(run=run, reviewers=people, overlap=2)
    by_example: dict[int, list[str]] = {}
    for number, name in dealt(run):
        by_example.setdefault(number, []).append(name)
    met = Counter(tuple(sorted(names)) for names in by_example.values())
    assert len(met) == 6
    assert max(met.values()) - min(met.values()) <= 1


def test_some_items_can_be_dealt_again(run: Run, people: list[User]) -> None:
    ada, ben = people[:2]
    reviews.tag(example=example(run, 3), reviewer=ada, tags=["hard"])
    assign(run=run, reviewers=[ada], overlap=1)
    assert assign(run=run, reviewers=[ben], overlap=1, filters=Filters(tag="hard")) == 1
    assert [number for number, name in dealt(run) if name == "ben"] == [3]
    assert len(dealt(run)) == SIZE


def test_the_dataset_says_how_many_unless_told(run: Run, people: list[User]) -> None:
    Dataset.objects.update(overlap=2)
    run.dataset.refresh_from_db()
    assign(run=run, reviewers=people)
    assert len(dealt(run)) == 2 * SIZE


@pytest.mark.parametrize(
    ("chosen", "overlap", "param"), [([], 1, "reviewers"), ([0, 0], 1, "reviewers"), ([0], 2, "overlap")]
)
def test_it_rejects(run: Run, people: list[User], chosen: list[int], overlap: int, param: str) -> None:
    with pytest.raises(DomainError) as refused:
        assign(run=run, reviewers=[people[seat] for seat in chosen], overlap=overlap)
    assert refused.value.param == param


def test_what_comes_next_is_assigned_and_not_done(run: Run, people: list[User]) -> None:
    ada, ben, cleo, _ = people
    assign(run=run, reviewers=[ada, ben], overlap=1)
    assert (next_for(reviewer=ada, run=run), next_for(reviewer=ben, run=run)) == (1, 2)
    done(run, 1, ada)
    assert next_for(reviewer=ada, run=run) == 3
    assert next_for(reviewer=ada, run=run, after=24) == 25
    assert next_for(reviewer=ada, run=run, after=25) == 3  # round again
    assert next_for(reviewer=cleo, run=run) is None
    for number in range(3, SIZE + 1, 2):
        done(run, number, ada)
    assert next_for(reviewer=ada, run=run) is None


def test_what_others_work_on_comes_later(run: Run, people: list[User]) -> None:
    ada, ben = people[:2]
    locks.take(example=example(run, 1), reviewer=ben)
    assert next_for(reviewer=ada, run=run) == 2
    assert next_for(reviewer=ben, run=run) == 1
    assert assignments.take_next(reviewer=ada, run=run) == 2
    assert locks.holder(example=example(run, 2)) == ada


def test_without_assignments_the_whole_run_is_everybodys(run: Run, people: list[User]) -> None:
    ada, ben, cleo, _ = people
    done(run, 1, ada)
    assert next_for(reviewer=ben, run=run) == 2  # one reviewer is enough
    Dataset.objects.update(overlap=2)
    run.dataset.refresh_from_db()
    assert next_for(reviewer=ben, run=run) == 1
    done(run, 1, ben)
    assert next_for(reviewer=cleo, run=run) == 2


def test_progress(run: Run, people: list[User]) -> None:
    ada, ben = people[:2]
    assign(run=run, reviewers=[ada, ben], overlap=1)
    done(run, 1, ada)
    reviews.set_state(example=example(run, 3), reviewer=ada, state="rejected")
    reviews.note(example=example(run, 5), reviewer=ada, text="Later.")
    done(run, 2, ada)  # not hers
    assert assignments.progress(run) == [
        assignments.Progress(reviewer="ada", assigned=13, done=2, rejected=1),
        assignments.Progress(reviewer="ben", assigned=12, done=0, rejected=0),
    ]
