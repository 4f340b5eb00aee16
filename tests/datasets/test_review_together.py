"""Several reviewers at once, in threads and transactions of their own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections

from apps.accounts.models import Membership, Project
from apps.core.errors import Conflict
from apps.datasets.models import Answer, Change, Dataset, Example, Rating, Run, Star
from apps.datasets.reviews import assignments, locks
from apps.datasets.reviews import services as reviews
from apps.events.models import Event
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db(transaction=True)
SIZE = 24


@pytest.fixture
def project(transactional_db: None) -> Project:
    return Project.objects.create(name="together")


@pytest.fixture
def run(project: Project) -> Run:
    prompts = [f"Question {number}" for number in range(SIZE)]
    return make_run(make_version(project, prompts), {"small": prompts, "large": prompts})


@pytest.fixture
def people(project: Project) -> list[User]:
    return [make_reviewer(project, name) for name in ("ada", "ben")]


def together(*works: Callable[[], Any]) -> list[Any]:
    """What each gave or raised; all start at the same moment."""
    barrier = Barrier(len(works))

    def at_once(work: Callable[[], Any]) -> Any:
        try:
            barrier.wait(timeout=30)
            return work()
        except Conflict as conflict:
            return conflict
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(at_once, works))


def answer(run: Run, number: int, position: int = 0) -> Answer:
    found = Answer.objects.select_related("example__dataset__project", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None)


def work_through(run: Run, reviewer: User) -> list[int]:
    """As a reviewer does at the page: the next one, an edit, a star, done."""
    seen: list[int] = []
    after = 0
    while number := assignments.take_next(reviewer=reviewer, run=run, after=after):
        mine = answer(run, number)
        reviews.edit(answer=mine, reviewer=reviewer, text=f"By {reviewer.username}")
        edit = Answer.objects.select_related("example__dataset__project").get(edit_of=mine, author=reviewer)
        reviews.star(answer=edit, reviewer=reviewer)
        reviews.set_state(example=mine.example, reviewer=reviewer, state="done")
        locks.release(example=mine.example, reviewer=reviewer)
        seen.append(number)
        after = number
    return seen


def test_it_works(run: Run, people: list[User]) -> None:
    """One queue, two reviewers: each example is done once, and no edit is lost."""
    seen = together(*(partial(work_through, run, who) for who in people))
    assert sorted(seen[0] + seen[1]) == list(range(1, SIZE + 1))
    for who, numbers in zip(people, seen, strict=True):
        edits = Answer.objects.filter(author=who).order_by("example__number")
        assert list(edits.values_list("example__number", flat=True)) == numbers
        assert {edit.text for edit in edits} <= {f"By {who.username}"}
    assert Star.objects.count() == SIZE
    assert Change.objects.count() == 3 * SIZE
    assert run.items.filter(starred=True, edited=True, reviews=1).count() == SIZE


def test_both_edits_of_one_answer_are_kept(run: Run, people: list[User]) -> None:
    Dataset.objects.update(overlap=2)
    for number in range(1, SIZE + 1):
        subject = answer(run, number)
        together(*(partial(reviews.edit, answer=subject, reviewer=who, text=who.username) for who in people))
    assert Answer.objects.filter(author=people[0]).count() == Answer.objects.filter(author=people[1]).count() == SIZE
    assert run.items.filter(edited=True).count() == SIZE


def test_two_stars_at_once_are_one(run: Run, people: list[User]) -> None:
    """Whichever comes last has it, and the history is a chain that leads there."""
    for number in range(1, SIZE + 1):
        given = [(answer(run, number, position), who) for position, who in enumerate(people)]
        together(*(partial(reviews.star, answer=subject, reviewer=who) for subject, who in given))
        star = Star.objects.get(example__number=number)
        first, last = Change.objects.filter(example=star.example).order_by("pk")
        assert (first.before, last.before) == (None, first.after)
        assert last.after == {"answer": star.answer_id, "reviewer": star.reviewer_id}
    assert Event.objects.count() == 2 * SIZE


def test_the_same_star_twice_at_once_is_given_once(run: Run, people: list[User]) -> None:
    subject = answer(run, 1)
    together(*[partial(reviews.star, answer=subject, reviewer=people[0])] * 4)
    assert (Star.objects.count(), Change.objects.count(), Event.objects.count()) == (1, 1, 1)


def test_one_of_two_gets_the_lock(run: Run, people: list[User]) -> None:
    for number in range(1, SIZE + 1):
        example = Example.objects.get(number=number)
        outcomes = together(*(partial(locks.take, example=example, reviewer=who) for who in people))
        (conflict,) = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
        holder = locks.holder(example=example)
        assert holder is not None
        assert holder.username in conflict.message


def test_one_of_two_takes_over_what_expired(run: Run, people: list[User], project: Project) -> None:
    gone = make_reviewer(project, "gone", Membership.Role.CURATOR)
    example = Example.objects.get(number=1)
    for _ in range(10):
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM datasets_lock")
        locks.take(example=example, reviewer=gone)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE datasets_lock SET expires_at = clock_timestamp()")
        outcomes = together(*(partial(locks.take, example=example, reviewer=who) for who in people))
        assert len([outcome for outcome in outcomes if isinstance(outcome, Conflict)]) == 1


def test_undo_at_once_is_each_ones_own(run: Run, people: list[User]) -> None:
    Dataset.objects.update(overlap=2)
    for number in range(1, 9):
        for who in people:
            reviews.rate(answer=answer(run, number), reviewer=who, value=3)
    dataset = Dataset.objects.get()
    ada, ben = people
    undone = together(*[partial(reviews.undo, reviewer=ada, dataset=dataset)] * 3)
    assert len({change.pk for change in undone}) == 3  # three presses, three steps
    assert Rating.objects.filter(reviewer=ada).count() == 5
    assert Rating.objects.filter(reviewer=ben).count() == 8


def test_it_survives_a_change_under_way(run: Run, people: list[User]) -> None:
    """An undo while somebody else moves the star: either it comes first, or it is refused; nothing is half done."""
    ada, ben = people
    dataset = Dataset.objects.get()
    for number in range(1, 13):
        reviews.star(answer=answer(run, number, 0), reviewer=ada)
        undone, _ = together(
            partial(reviews.undo, reviewer=ada, dataset=dataset),
            partial(reviews.star, answer=answer(run, number, 1), reviewer=ben),
        )
        star = Star.objects.get(example__number=number)
        assert (star.answer.column.position, star.reviewer) == (1, ben)
        if isinstance(undone, Conflict):
            assert "ben changed the star" in undone.message
            Change.objects.filter(reviewer=ada).delete()
