"""Which items a reviewer wants to see."""

import pytest
from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.datasets import items
from apps.datasets.models import Answer, Item, Judge, Judgement, Run
from apps.datasets.reviews import assignments, matrix, search
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.filters import Filters
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db

PROMPTS = ("Capital of France?", "Capital of Peru?", "Capital of Ghana?", "A river in Chad?")
ANSWERS: dict[str, list[str | None]] = {
    "small": ["Paris", "Lima", None, "The Chari"],
    "large": ["Paris, of course", "Lima", "Accra", "The long and winding Chari"],
}


@pytest.fixture
def run(project: Project) -> Run:
    """1 is starred and tagged by Mia, 2 rated 2 by Ben, 3 rejected by Ben and done for Mia, 4 edited and scored."""
    run = make_run(make_version(project, PROMPTS), ANSWERS)
    mia, ben = make_reviewer(project), make_reviewer(project, "ben")
    reviews.star(answer=answer(run, 1, 1), reviewer=mia)
    reviews.tag(example=answer(run, 1, 1).example, reviewer=mia, tags=["easy"])
    reviews.rate(answer=answer(run, 2, 0), reviewer=ben, value=2)
    reviews.set_state(example=answer(run, 3, 0).example, reviewer=ben, state="rejected")
    reviews.set_state(example=answer(run, 3, 0).example, reviewer=mia, state="done")
    reviews.edit(answer=answer(run, 4, 0), reviewer=mia, text="The Chari, into Lake Chad")
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Right?")
    Judgement.objects.create(judge=judge, answer=answer(run, 4, 1), score=4)
    items.refresh_scores(run.pk, judge.pk, [answer(run, 4, 1).example_id])
    assignments.assign(run=run, reviewers=[mia, ben], overlap=1)
    return run


def answer(run: Run, number: int, position: int) -> Answer:
    found = Answer.objects.select_related("example__dataset", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None)


def numbers(run: Run, **query: str) -> list[int]:
    found = Filters.parse(query).apply(Item.objects.all(), run=run).order_by("number")
    return list(found.values_list("number", flat=True))


CASES: list[tuple[dict[str, str], list[int]]] = [
    ({}, [1, 2, 3, 4]),
    ({"show": "differs"}, [1, 4]),
    ({"show": "same"}, [2, 3]),
    ({"starred": "yes"}, [1]),
    ({"starred": "no"}, [2, 3, 4]),
    ({"starred": "mine", "reviewer": "mia"}, [1]),
    ({"starred": "mine", "reviewer": "ben"}, []),
    ({"rated": "yes"}, [2]),
    ({"rated": "no"}, [1, 3, 4]),
    ({"rating_min": "2"}, [2]),
    ({"rating_min": "3"}, []),
    ({"rating_max": "2"}, [2]),
    ({"tag": " EASY"}, [1]),
    ({"tag": "hard"}, []),
    ({"failed": "yes"}, [3]),
    ({"failed": "no"}, [1, 2, 4]),
    ({"length_min": "16"}, [1, 4]),
    ({"length_max": "4"}, [2]),
    ({"column": "0", "column_is": "failed"}, [3]),
    ({"column": "1", "column_is": "failed"}, []),
    ({"column": "0", "column_is": "missing"}, []),
    ({"column": "1", "column_is": "longest"}, [1, 4]),
    ({"column": "0", "column_is": "edited"}, [4]),
    ({"column": "1"}, [1, 2, 3, 4]),
    ({"score_min": "3.5"}, [4]),
    ({"score_max": "3.5"}, []),
    ({"reviewed": "yes"}, [3]),
    ({"reviewed": "no"}, [1, 2, 4]),
    ({"reviewed": "mine", "reviewer": "mia"}, [3]),
    ({"reviewed": "todo", "reviewer": "mia"}, [1, 2, 4]),
    ({"assigned": "mine", "reviewer": "mia"}, [1, 3]),
    ({"assigned": "mine", "reviewed": "todo", "reviewer": "mia"}, [1]),
    ({"rejected": "yes"}, [3]),
    ({"rejected": "no"}, [1, 2, 4]),
    ({"edited": "yes"}, [4]),
    ({"edited": "no"}, [1, 2, 3]),
    ({"text": "capital"}, [1, 2, 3]),
    ({"text": "PARIS"}, [1]),
    ({"text": '"capital of peru"'}, [2]),
    ({"text": "lake or ghana"}, [3, 4]),
    ({"text": "chari -winding"}, [4]),
    ({"text": "nowhere"}, []),
    ({"text": "capital", "failed": "yes", "show": "same"}, [3]),
]


@pytest.mark.parametrize(("query", "expected"), CASES)
def test_it_works(run: Run, query: dict[str, str], expected: list[int]) -> None:
    assert numbers(run, **query) == expected


@pytest.mark.parametrize("common", [0.0, 2.0])
@pytest.mark.parametrize(("query", "expected"), [case for case in CASES if "text" in case[0]])
def test_pages_search_both_ways(
    run: Run, query: dict[str, str], expected: list[int], common: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On through the texts, and by the index."""
    monkeypatch.setattr(search, "COMMON", common)
    filters = Filters.parse(query)
    for limit in (1, 2, 3, 10):
        page = matrix.read_page(run, filters=filters, limit=limit, reviewer=None)
        assert [row.number for row in page.rows] == expected[:limit]
        assert page.after == (expected[limit - 1] if len(expected) > limit else None)
    before = [number for number in expected if number < 3]
    after = [number for number in expected if number > 3]
    found = matrix.neighbours(run, 3, filters=filters, reviewer=None)
    assert found == (before[-1] if before else None, after[0] if after else None)
    assert matrix.count(run, filters=filters, reviewer=None).value == len(expected)


def test_words_beyond_those_read_on_are_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "COMMON", 0.0)
    monkeypatch.setattr(search, "WALK", 1)
    page = matrix.read_page(run, filters=Filters(text="chari"), reviewer=None)
    assert [row.number for row in page.rows] == [4]


def test_a_search_that_takes_too_long_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SECONDS", 0.05)
    slow = Item.objects.filter(run=run).extra(where=["pg_sleep(1) IS NOT NULL"])
    with pytest.raises(DomainError, match="rarer words") as refused:
        search.first(slow, "paris", run, limit=1, read=list)
    assert refused.value.param == "text"
    monkeypatch.setattr(search, "COUNT_SECONDS", 0.05)
    assert search.count(slow, "paris", run, limit=1) is None
    assert numbers(run, text="paris") == [1]  # the transaction goes on


def test_mine_is_the_reviewers(run: Run) -> None:
    mia = User.objects.get(username="mia")
    filters = Filters.parse({"starred": "mine"})
    assert filters.seen_by(mia).as_query() == {"starred": "mine", "reviewer": "mia"}
    assert filters.seen_by(None) == filters
    assert Filters(show="differs").seen_by(mia) == Filters(show="differs")
    assert [row.number for row in matrix.read_page(run, filters=filters, reviewer=mia).rows] == [1]
    assert filters.apply(Item.objects.all(), run=run, reviewer=mia).count() == 1


@pytest.mark.parametrize("query", [query for query, _ in CASES])
def test_a_query_comes_back_as_it_was(query: dict[str, str]) -> None:
    filters = Filters.parse(query)
    assert Filters.parse(filters.as_query()) == filters
    assert filters.as_query() == {
        name: value.strip().lower() if name == "tag" else value for name, value in query.items()
    }


def test_what_is_empty_or_unknown_asks_for_nothing() -> None:
    assert Filters.parse({"starred": "", "page": "3", "rating_min": ""}) == Filters()
    assert Filters().as_query() == {}


def test_an_unknown_name_among_filters_is_refused() -> None:
    """It would leave more items than were meant."""
    assert Filters.named({"starred": "yes", "text": ""}) == Filters(starred="yes")
    with pytest.raises(DomainError, match=r"Did you mean starred\?") as refused:
        Filters.named({"stared": "yes"})
    assert (refused.value.param, refused.value.code) == ("stared", "unknown_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("show", "everything"), ("starred", "maybe"), ("rating_min", "0"), ("rating_min", "6"), ("rating_max", "x"),
        ("rating_min", "٣"), ("length_min", "-1"), ("length_max", "9" * 30), ("column", "99999"), ("score_min", "nan"),
        ("score_max", "1e999"), ("column_is", "pretty"), ("text", "a\0b"), ("text", "x" * 501), ("tag", "x" * 51),
        ("reviewer", "\0"), ("reviewed", "by"), ("text", "\ud800"),
    ],
)  # fmt: skip
def test_it_rejects(name: str, value: str) -> None:
    with pytest.raises(DomainError) as refused:
        Filters.parse({name: value})
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"starred": "mine"}, "reviewer"), ({"reviewed": "todo", "reviewer": "nobody"}, "reviewer"),
        ({"column": "2", "column_is": "failed"}, "column"),
    ],
)  # fmt: skip
def test_it_rejects_what_the_run_lacks(run: Run, query: dict[str, str], param: str) -> None:
    with pytest.raises(DomainError) as refused:
        numbers(run, **query)
    assert refused.value.param == param


@pytest.mark.parametrize("text", [*"'\"!%\\-🙂\u202e", "& | !", ":*", "a & !", "((", "<->", "or"])
def test_any_text_can_be_searched_for(run: Run, text: str) -> None:
    assert set(numbers(run, text=text)) <= {1, 2, 3, 4}
    assert matrix.read_page(run, filters=Filters(text=text), reviewer=None).after is None


def test_a_column_that_waits_misses_answers(run: Run) -> None:
    answer(run, 2, 1).delete()
    items.refresh_answers(run.pk, [item.example_id for item in run.items.all()])
    assert numbers(run, column="1", column_is="missing") == [2]


def test_only_items_of_the_run(run: Run, project: Project) -> None:
    other = make_run(run.version, {"tiny": ["w", "x", "y", "zebra"]}, name="other")
    items.refresh_reviews([item.example_id for item in run.items.all()])
    assert numbers(other, text="zebra") == [4]
    assert numbers(run, text="zebra") == []
    assert numbers(other, starred="yes") == [1]  # a star is the example's, in whatever run
