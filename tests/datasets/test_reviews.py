"""What reviewers do, what is written about it, and how it is undone."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Answer, Change, Dataset, Example, Item, Preference, Rating, Review, Run, Star
from apps.datasets.reviews import locks
from apps.datasets.reviews import services as reviews
from apps.events.models import Event
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(make_version(project), {"small": ["Paris", "Lima", None], "large": ["Paris!", "Lima", "Accra"]})


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


@pytest.fixture
def ben(project: Project) -> User:
    return make_reviewer(project, "ben")


def answer(run: Run, number: int, position: int) -> Answer:
    found = Answer.objects.select_related("example__dataset__project", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None)


def example(run: Run, number: int) -> Example:
    return Example.objects.select_related("dataset").get(dataset=run.dataset, number=number)


def item(run: Run, number: int = 1) -> Item:
    return run.items.get(number=number)


def each_has_own_star(run: Run) -> None:
    Dataset.objects.filter(pk=run.dataset_id).update(star_policy=Dataset.StarPolicy.REVIEWER)


def wants_two_reviewers(run: Run) -> None:
    Dataset.objects.filter(pk=run.dataset_id).update(overlap=2)


def test_it_works(run: Run, mia: User) -> None:
    change = reviews.star(answer=answer(run, 1, 0), reviewer=mia)
    assert change is not None
    assert (change.kind, change.before, change.after) == (
        "star", None, {"answer": answer(run, 1, 0).pk, "reviewer": mia.pk},
    )  # fmt: skip
    assert item(run).starred
    event = Event.objects.get()
    assert (event.type, event.project) == ("example.starred", run.project)
    assert event.data == {"id": run.dataset.uid, "example": 1, "answer": answer(run, 1, 0).pk, "reviewer": "mia"}
    assert reviews.undo(reviewer=mia, dataset=run.dataset) == change
    assert not item(run).starred
    assert not Star.objects.exists()
    change.refresh_from_db()
    assert change.undone_at is not None
    assert Event.objects.count() == 1  # that a star is taken away is not announced
    assert reviews.undo(reviewer=mia, dataset=run.dataset) is None


def test_a_shared_star_moves(run: Run, mia: User, ben: User) -> None:
    reviews.star(answer=answer(run, 1, 0), reviewer=mia)
    assert reviews.star(answer=answer(run, 1, 0), reviewer=ben) is None
    assert Star.objects.get().reviewer == mia
    reviews.star(answer=answer(run, 1, 1), reviewer=ben)
    star = Star.objects.get()
    assert (star.answer, star.reviewer, star.shared) == (answer(run, 1, 1), ben, True)
    reviews.undo(reviewer=ben, dataset=run.dataset)
    assert (Star.objects.get().answer, Star.objects.get().reviewer) == (answer(run, 1, 0), mia)
    assert [event.data["reviewer"] for event in Event.objects.order_by("pk")] == ["mia", "ben", "mia"]
    reviews.unstar(example=example(run, 1), reviewer=ben)
    assert not Star.objects.exists()


def test_each_reviewer_can_have_a_star(run: Run, mia: User, ben: User) -> None:
    each_has_own_star(run)
    for reviewer, position in ((mia, 0), (ben, 1), (mia, 1)):
        reviews.star(answer=answer(run, 1, position), reviewer=reviewer)
    assert set(Star.objects.values_list("reviewer__username", "answer__column__position", "shared")) == {
        ("mia", 1, False), ("ben", 1, False),
    }  # fmt: skip
    reviews.unstar(example=example(run, 1), reviewer=mia)
    assert Star.objects.get().reviewer == ben
    assert item(run).starred


def test_ratings(run: Run, mia: User, ben: User) -> None:
    reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=2)
    reviews.rate(answer=answer(run, 1, 1), reviewer=ben, value=4)
    assert item(run).rating == 4
    reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=5)
    assert reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=5) is None
    assert item(run).rating == 5
    reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=None)
    assert (item(run).rating, Rating.objects.get().reviewer) == (4, ben)
    assert list(Change.objects.order_by("pk").values_list("before", "after")) == [
        (None, 2), (None, 4), (2, 5), (5, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "kept"), [("left", "right"), ("right", "left"), ("tie", "tie"), ("neither", "neither")]
)
def test_preferences_are_kept_in_order(run: Run, mia: User, seen: str, kept: str) -> None:
    older, newer = answer(run, 1, 0), answer(run, 1, 1)
    reviews.prefer(left=newer, right=older, reviewer=mia, verdict=seen, blind=True)
    row = Preference.objects.get()
    assert (row.left, row.right, row.verdict, row.blind) == (older, newer, kept, True)
    assert reviews.prefer(left=older, right=newer, reviewer=mia, verdict=kept, blind=True) is None
    reviews.prefer(left=older, right=newer, reviewer=mia, verdict="left", blind=False)
    assert Preference.objects.get().verdict == "left"
    reviews.undo(reviewer=mia, dataset=run.dataset)
    assert (Preference.objects.get().verdict, Preference.objects.get().blind) == (kept, True)
    reviews.prefer(left=older, right=newer, reviewer=mia, verdict=None)
    assert not Preference.objects.exists()


def test_tags_are_tidied(run: Run, mia: User) -> None:
    reviews.tag(example=example(run, 1), reviewer=mia, tags=["  Very   Hard ", "maths", "MATHS", ""])
    assert example(run, 1).tags == ["very hard", "maths"]
    assert reviews.tag(example=example(run, 1), reviewer=mia, tags=["very hard", "Maths"]) is None
    reviews.tag(example=example(run, 1), reviewer=mia, tags=[])
    reviews.undo(reviewer=mia, dataset=run.dataset)
    assert example(run, 1).tags == ["very hard", "maths"]


def test_notes_and_states_are_the_reviewers_own(run: Run, mia: User, ben: User) -> None:
    assert reviews.note(example=example(run, 1), reviewer=mia, text=" ") is None
    assert reviews.set_state(example=example(run, 1), reviewer=mia, state="open") is None
    assert not Review.objects.exists()
    reviews.note(example=example(run, 1), reviewer=mia, text="Odd. ")
    reviews.set_state(example=example(run, 1), reviewer=mia, state="done")
    reviews.set_state(example=example(run, 1), reviewer=ben, state="rejected")
    assert (item(run).reviews, item(run).rejected) == (2, True)
    assert set(Review.objects.values_list("reviewer__username", "note", "state")) == {
        ("mia", "Odd.", "done"), ("ben", "", "rejected"),
    }  # fmt: skip
    reviews.undo(reviewer=ben, dataset=run.dataset)
    assert (item(run).reviews, item(run).rejected) == (1, False)


def test_an_edit_leaves_the_original(run: Run, mia: User, ben: User) -> None:
    origin = answer(run, 1, 0)
    reviews.edit(answer=origin, reviewer=mia, text="Paris, France")
    mine = Answer.objects.get(edit_of=origin)
    assert (mine.column, mine.example, mine.sample, mine.author) == (origin.column, origin.example, 0, mia)
    assert (mine.output_tokens, mine.text, answer(run, 1, 0).text) == (0, "Paris, France", "Paris")
    assert (item(run).edited, item(run).longest) == (True, 13)

    reviews.edit(answer=mine, reviewer=ben, text="Paris, in France")
    theirs = Answer.objects.get(author=ben)
    assert theirs.edit_of == origin
    reviews.edit(answer=theirs, reviewer=mia, text="Paris, I think")
    mine.refresh_from_db()
    assert mine.text == "Paris, I think"
    assert Answer.objects.filter(edit_of=origin).count() == 2

    reviews.undo(reviewer=mia, dataset=run.dataset)
    mine.refresh_from_db()
    assert mine.text == "Paris, France"
    reviews.edit(answer=origin, reviewer=mia, text=None)
    assert Answer.objects.get(edit_of=origin) == theirs
    reviews.undo(reviewer=mia, dataset=run.dataset)
    assert Answer.objects.get(author=mia).text == "Paris, France"


def test_an_edit_that_was_decided_about_stays(run: Run, mia: User, ben: User) -> None:
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="Better")
    mine = Answer.objects.select_related("example__dataset").get(author=mia)
    reviews.star(answer=mine, reviewer=ben)
    with pytest.raises(Conflict, match="Take away the star first"):
        reviews.edit(answer=mine, reviewer=mia, text=None)
    with pytest.raises(Conflict, match="Take away the star first"):
        reviews.undo(reviewer=mia, dataset=run.dataset)
    reviews.unstar(example=example(run, 1), reviewer=ben)
    reviews.prefer(left=mine, right=answer(run, 1, 1), reviewer=ben, verdict="left")
    with pytest.raises(Conflict, match="its preferences"):
        reviews.edit(answer=mine, reviewer=mia, text=None)
    reviews.undo(reviewer=ben, dataset=run.dataset)
    assert reviews.undo(reviewer=mia, dataset=run.dataset) is not None
    assert not Answer.objects.filter(author=mia).exists()
    with pytest.raises(Conflict, match="has been removed"):  # the star was on what is gone
        reviews.undo(reviewer=ben, dataset=run.dataset)


def test_failed_answers_can_only_be_edited(run: Run, mia: User) -> None:
    failed = answer(run, 3, 0)
    with pytest.raises(DomainError, match="Edit it"):
        reviews.star(answer=failed, reviewer=mia)
    with pytest.raises(DomainError, match="nothing to rate"):
        reviews.rate(answer=failed, reviewer=mia, value=3)
    reviews.edit(answer=failed, reviewer=mia, text="Accra")
    reviews.star(answer=Answer.objects.select_related("example__dataset").get(author=mia), reviewer=mia)
    assert item(run, 3).starred


def test_undo_goes_back_step_by_step_and_is_each_ones_own(run: Run, mia: User, ben: User) -> None:
    for value in (1, 2, 3):
        reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=value)
    reviews.rate(answer=answer(run, 1, 0), reviewer=ben, value=5)
    for expected in (2, 1, None):
        reviews.undo(reviewer=mia, dataset=run.dataset)
        assert Rating.objects.filter(reviewer=mia).values_list("value", flat=True).first() == expected
    assert reviews.undo(reviewer=mia, dataset=run.dataset) is None
    assert Rating.objects.get().reviewer == ben


def test_one_change_can_be_undone_by_itself(run: Run, mia: User, ben: User) -> None:
    first = reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=1)
    reviews.rate(answer=answer(run, 2, 0), reviewer=mia, value=2)
    assert first is not None
    assert reviews.undo(reviewer=ben, dataset=run.dataset, change=first.pk) is None
    assert reviews.undo(reviewer=mia, dataset=run.dataset, change=first.pk) == first
    assert Rating.objects.get().answer == answer(run, 2, 0)


def test_what_somebody_else_changed_since_is_not_undone(run: Run, mia: User, ben: User) -> None:
    reviews.tag(example=example(run, 1), reviewer=mia, tags=["a"])
    reviews.tag(example=example(run, 1), reviewer=ben, tags=["b"])
    with pytest.raises(Conflict, match="ben changed the tag of example 1 since"):
        reviews.undo(reviewer=mia, dataset=run.dataset)
    assert example(run, 1).tags == ["b"]
    assert not Change.objects.exclude(undone_at=None).exists()
    reviews.undo(reviewer=ben, dataset=run.dataset)
    reviews.undo(reviewer=mia, dataset=run.dataset)
    assert example(run, 1).tags == []


def test_undo_is_of_one_dataset(run: Run, mia: User, project: Project) -> None:
    other = make_run(make_version(project, name="other"), {"small": ["a", "b", "c"]})
    reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=1)
    assert reviews.undo(reviewer=mia, dataset=other.dataset) is None


def test_what_somebody_else_holds_cannot_be_changed(run: Run, mia: User, ben: User) -> None:
    locks.take(example=example(run, 1), reviewer=ben)
    verbs: list[Any] = [
        lambda: reviews.star(answer=answer(run, 1, 0), reviewer=mia),
        lambda: reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=1),
        lambda: reviews.prefer(left=answer(run, 1, 0), right=answer(run, 1, 1), reviewer=mia, verdict="tie"),
        lambda: reviews.tag(example=example(run, 1), reviewer=mia, tags=["a"]),
        lambda: reviews.note(example=example(run, 1), reviewer=mia, text="a"),
        lambda: reviews.set_state(example=example(run, 1), reviewer=mia, state="done"),
        lambda: reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="a"),
    ]
    for verb in verbs:
        with pytest.raises(Conflict, match="ben works on this example"):
            verb()
    assert not Change.objects.exists()
    assert reviews.rate(answer=answer(run, 1, 0), reviewer=ben, value=1)
    assert reviews.rate(answer=answer(run, 2, 0), reviewer=mia, value=1)


def test_with_several_reviewers_only_what_they_share_is_held(run: Run, mia: User, ben: User) -> None:
    wants_two_reviewers(run)
    locks.take(example=example(run, 1), reviewer=ben)
    assert reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=1)
    assert reviews.note(example=example(run, 1), reviewer=mia, text="a")
    assert reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="a")
    assert reviews.set_state(example=example(run, 1), reviewer=mia, state="done")
    shared: list[Any] = [
        lambda: reviews.star(answer=answer(run, 1, 0), reviewer=mia),
        lambda: reviews.tag(example=example(run, 1), reviewer=mia, tags=["a"]),
        lambda: reviews.set_state(example=example(run, 1), reviewer=mia, state="rejected"),
    ]
    for verb in shared:
        with pytest.raises(Conflict, match="ben works on this example"):
            verb()
    each_has_own_star(run)
    assert reviews.star(answer=answer(run, 1, 0), reviewer=mia)


def test_undo_respects_locks(run: Run, mia: User, ben: User) -> None:
    reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=1)
    locks.take(example=example(run, 1), reviewer=ben)
    with pytest.raises(Conflict, match="ben works"):
        reviews.undo(reviewer=mia, dataset=run.dataset)
    locks.release(example=example(run, 1), reviewer=ben)
    assert reviews.undo(reviewer=mia, dataset=run.dataset)


def test_it_rejects_what_does_not_belong_together(run: Run, mia: User) -> None:
    with pytest.raises(DomainError, match="different examples"):
        reviews.prefer(left=answer(run, 1, 0), right=answer(run, 2, 0), reviewer=mia, verdict="left")
    with pytest.raises(DomainError, match="one and the same"):
        reviews.prefer(left=answer(run, 1, 0), right=answer(run, 1, 0), reviewer=mia, verdict="left")


@pytest.mark.parametrize("value", [0, 6, -1])
def test_it_rejects_ratings_out_of_range(run: Run, mia: User, value: int) -> None:
    with pytest.raises(DomainError, match="from 1 to 5"):
        reviews.rate(answer=answer(run, 1, 0), reviewer=mia, value=value)


@pytest.mark.parametrize(
    ("verb", "param"),
    [
        (lambda run, mia: reviews.tag(example=example(run, 1), reviewer=mia, tags=["x" * 51]), "tags"),
        (lambda run, mia: reviews.tag(example=example(run, 1), reviewer=mia, tags=[str(n) for n in range(21)]), "tags"),
        (lambda run, mia: reviews.tag(example=example(run, 1), reviewer=mia, tags=["a\0"]), "tags"),
        (lambda run, mia: reviews.note(example=example(run, 1), reviewer=mia, text="x" * 10_001), "note"),
        (lambda run, mia: reviews.note(example=example(run, 1), reviewer=mia, text="\ud800"), "note"),
        (lambda run, mia: reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="a\0"), "text"),
        (lambda run, mia: reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="  "), "text"),
        (lambda run, mia: reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="x" * 1_000_001), "text"),
        (lambda run, mia: reviews.set_state(example=example(run, 1), reviewer=mia, state="lost"), "state"),
        (
            lambda run, mia: reviews.prefer(
                left=answer(run, 1, 0), right=answer(run, 1, 1), reviewer=mia, verdict="best"
            ),
            "verdict",
        ),
    ],
)
def test_it_rejects_what_cannot_be_kept(run: Run, mia: User, verb: Any, param: str) -> None:
    with pytest.raises(DomainError) as refused:
        verb(run, mia)
    assert refused.value.param == param
    assert not Change.objects.exists()


def test_it_survives_odd_texts(run: Run, mia: User) -> None:
    text = "\u202e<script>\x1b[31m{{ 1 }} '; DROP TABLE 🙂\ufffe\t\r\n"
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text=text)
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="other")
    reviews.undo(reviewer=mia, dataset=run.dataset)
    assert Answer.objects.get(author=mia).text == text


def test_a_decision_costs_few_queries(run: Run, mia: User, django_assert_max_num_queries: Any) -> None:
    subject, other = answer(run, 1, 0), answer(run, 1, 1)
    verbs: list[Any] = [
        lambda: reviews.star(answer=subject, reviewer=mia),
        lambda: reviews.rate(answer=subject, reviewer=mia, value=3),
        lambda: reviews.edit(answer=subject, reviewer=mia, text="Better"),
        lambda: reviews.prefer(left=subject, right=other, reviewer=mia, verdict="left"),
        lambda: reviews.note(example=subject.example, reviewer=mia, text="Good."),
        lambda: reviews.undo(reviewer=mia, dataset=run.dataset),
    ]
    for verb in verbs:
        with django_assert_max_num_queries(15):  # begin, commit and savepoints included
            verb()
