"""A page of the matrix."""

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.datasets.models import Answer, Example, Judge, Judgement, Run
from apps.datasets.reviews import locks, matrix
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.filters import Filters
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db
ALL = Filters()


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(make_version(project), {"small": ["Paris", "Lima", None], "large": ["Paris!", "Lima", "Accra"]})


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


def answer(run: Run, number: int, position: int, **more: Any) -> Answer:
    found = Answer.objects.select_related("example__dataset", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None, **more)


def read(run: Run, mia: User, **asked: Any) -> matrix.Page:
    return matrix.read_page(run, **{"filters": ALL, "reviewer": mia, **asked})


def test_it_works(run: Run, mia: User) -> None:
    page = read(run, mia, diff=True)
    assert [(column.column, column.label, column.failed) for column in page.columns] == [
        (0, "small", 1),
        (1, "large", 0),
    ]
    assert ([row.number for row in page.rows], page.after, page.baseline) == ([1, 2, 3], None, 0)
    first, second, third = page.rows
    assert first.prompt.text == "Capital of France?"
    assert first.messages == ({"role": "user", "content": "Capital of France?"},)
    small, large = (cell.samples[0] for cell in first.cells)
    assert (small.text.text, small.diff, small.same) == ("Paris", None, False)
    assert (large.diff, large.same) == ((("equal", "Paris"), ("insert", "!")), False)
    assert second.cells[1].samples[0].same
    assert (third.cells[0].samples[0].error, third.cells[1].samples[0].diff) == ("Too slow.", None)


def test_what_was_decided_is_in_it(run: Run, mia: User, project: Project) -> None:
    ben = make_reviewer(project, "ben")
    paris, lima = answer(run, 1, 0), answer(run, 2, 0)
    reviews.edit(answer=paris, reviewer=ben, text="Paris, by Ben")
    reviews.edit(answer=paris, reviewer=mia, text="Paris, by Mia")
    reviews.edit(answer=lima, reviewer=ben, text="Lima, by Ben")
    reviews.rate(answer=paris, reviewer=mia, value=4)
    reviews.rate(answer=paris, reviewer=ben, value=1)
    mine = Answer.objects.get(edit_of=paris, author=mia)
    reviews.star(answer=mine, reviewer=mia)
    reviews.prefer(left=answer(run, 1, 1), right=paris, reviewer=mia, verdict="left", blind=True)
    reviews.note(example=paris.example, reviewer=mia, text="Short.")
    reviews.tag(example=paris.example, reviewer=mia, tags=["Easy"])
    locks.take(example=lima.example, reviewer=ben)
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Right?")
    Judgement.objects.create(judge=judge, answer=paris, score=5)

    row, other, _ = read(run, mia).rows
    sample = row.cells[0].samples[0]
    assert sample.edit is not None
    assert (sample.edit.text.text, sample.edit.mine, sample.edit.stars) == ("Paris, by Mia", True, ("mia",))
    assert (sample.edits, sample.rating, sample.score, sample.stars) == (2, 4, 5, ())
    assert (row.note, row.state, row.tags, row.stars) == ("Short.", "open", ("easy",), ((mine.pk, "mia"),))
    assert row.preferences == (matrix.Compared(left=paris.pk, right=answer(run, 1, 1).pk, verdict="right", blind=True),)
    theirs = other.cells[0].samples[0].edit
    assert theirs is not None
    assert (theirs.author, theirs.mine, other.locked_by, row.locked_by) == ("ben", False, "ben", "")


def test_pages_go_on_from_a_number(run: Run, mia: User) -> None:
    page = read(run, mia, limit=2)
    assert ([row.number for row in page.rows], page.after) == ([1, 2], 2)
    rest = read(run, mia, limit=2, after=page.after)
    assert ([row.number for row in rest.rows], rest.after) == ([3], None)
    assert read(run, mia, after=3).rows == ()


def test_another_column_can_be_the_baseline(run: Run, mia: User) -> None:
    sample = read(run, mia, baseline=1, diff=True).rows[0].cells[0].samples[0]
    assert sample.diff == (("equal", "Paris"), ("delete", "!"))
    with pytest.raises(DomainError, match="no column 7"):
        read(run, mia, baseline=7)


def test_a_page_costs_the_same_queries_however_long(project: Project, mia: User) -> None:
    prompts = [f"Question {number}" for number in range(60)]
    run = make_run(make_version(project, prompts), dict.fromkeys("abcd", prompts))
    for number in range(1, 40):
        reviews.edit(answer=answer(run, number, 0), reviewer=mia, text="Better")
        reviews.star(answer=answer(run, number, 1), reviewer=mia)
    every = Filters.parse({"starred": "mine", "column": "1", "column_is": "longest", "edited": "yes"})
    searched = replace(every, text="Question")
    for limit in (1, 50):
        # A search has a transaction of its own, and how it goes about it is up to PostgreSQL's statistics.
        for filters, expected in ((ALL, {5}), (every, {6}), (searched, {10, 11})):
            with CaptureQueriesContext(connection) as queries:
                page = read(run, mia, limit=limit, filters=filters, diff=True)
            assert len(queries) in expected
            assert len(page.rows) == min(limit, 50 if filters == ALL else 39)


def test_samples_stand_in_one_cell(run: Run, mia: User) -> None:
    first = answer(run, 1, 1)
    Answer.objects.create(column=first.column, example=first.example, sample=1, text="Paris")
    samples = read(run, mia, diff=True).rows[0].cells[1].samples
    assert [(sample.sample, sample.text.text, sample.same) for sample in samples] == [
        (0, "Paris!", False),
        (1, "Paris", True),
    ]


def test_long_texts_are_cut_on_a_page_and_whole_alone(run: Run, mia: User) -> None:
    Answer.objects.filter(pk=answer(run, 1, 0).pk).update(text="é" * 5_000_000)
    Example.objects.filter(number=1).update(messages='[{"content": "' + "x" * 30_000 + '"}]', prompt="y" * 30_000)
    row = read(run, mia).rows[0]
    text = row.cells[0].samples[0].text
    assert (len(text.text), text.characters, text.cut) == (matrix.CELL_CHARACTERS, 5_000_000, True)
    assert (row.prompt.cut, row.messages) == (True, ())
    alone = matrix.read_row(run, 1, reviewer=mia, diff=True)
    assert alone is not None
    assert (alone.prompt.cut, len(alone.messages[0]["content"])) == (False, 30_000)
    assert len(alone.cells[0].samples[0].text.text) == matrix.ROW_CHARACTERS
    assert alone.cells[1].samples[0].diff is not None


def test_neighbours_and_count_follow_the_filters(run: Run, mia: User) -> None:
    failed = Filters(failed="no")
    assert matrix.neighbours(run, 2, filters=ALL, reviewer=mia) == (1, 3)
    assert matrix.neighbours(run, 2, filters=failed, reviewer=mia) == (1, None)
    assert str(matrix.count(run, filters=failed, reviewer=mia)) == "2"
    assert matrix.read_row(run, 99, reviewer=mia) is None


def test_counting_ends_somewhere(run: Run, mia: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "COUNTED", 2)
    assert str(matrix.count(run, filters=ALL, reviewer=mia)) == "2+"
