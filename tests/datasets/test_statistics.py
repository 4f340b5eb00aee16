"""Win rates, ratings and agreement."""

import subprocess
import sys

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.datasets.models import Answer, Dataset, Judge, Judgement, Run
from apps.datasets.reviews import agreement, statistics
from apps.datasets.reviews import services as reviews
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db
SIZE = 12


@pytest.fixture
def run(project: Project) -> Run:
    prompts = [f"Question {number}" for number in range(SIZE)]
    return make_run(make_version(project, prompts), dict.fromkeys(("small", "large", "huge"), prompts))


@pytest.fixture
def people(project: Project) -> list[User]:
    return [make_reviewer(project, name) for name in ("ada", "ben", "cleo")]


def answer(run: Run, number: int, position: int) -> Answer:
    found = Answer.objects.select_related("example__dataset__project", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None)


def prefer(run: Run, number: int, left: int, right: int, verdict: str, by: User, *, blind: bool = False) -> None:
    reviews.prefer(
        left=answer(run, number, left), right=answer(run, number, right), reviewer=by, verdict=verdict, blind=blind
    )


def test_it_works(run: Run, people: list[User]) -> None:
    ada = people[0]
    for number, verdict in enumerate(["left"] * 6 + ["right"] * 2 + ["tie"] * 2 + ["neither"], start=1):
        prefer(run, number, 1, 0, verdict, ada, blind=number % 2 == 0)
    prefer(run, 1, 2, 1, "left", ada)
    found = statistics.win_rates(run)
    first, second = found.pairs
    assert (first.first, first.second) == (0, 1)
    assert (first.wins, first.losses, first.ties, first.neither, first.verdicts, first.blind) == (2, 6, 2, 1, 11, 5)
    assert first.rate == 0.3
    assert first.low is not None
    assert first.high is not None
    assert 0 < first.low < 0.3 < first.high < 0.7
    assert (second.first, second.second, second.losses, second.rate) == (1, 2, 1, 0.0)
    assert [column.first for column in found.columns] == [2, 1, 0]
    assert found.columns[1].wins == 6
    assert found == statistics.win_rates(run)
    (blind,) = statistics.win_rates(run, blind=True).pairs
    assert (blind.verdicts, blind.blind) == (5, 5)


def test_edits_are_peoples_work(run: Run, people: list[User]) -> None:
    ada = people[0]
    reviews.edit(answer=answer(run, 1, 0), reviewer=ada, text="Better")
    mine = Answer.objects.select_related("example__dataset", "column").get(author=ada)
    reviews.prefer(left=mine, right=answer(run, 1, 1), reviewer=ada, verdict="left")
    reviews.rate(answer=mine, reviewer=ada, value=5)
    assert statistics.win_rates(run).pairs == ()
    assert [column.count for column in statistics.ratings(run)] == [0, 0, 0]


def test_nothing_to_count(run: Run) -> None:
    assert statistics.win_rates(run) == statistics.WinRates(pairs=(), columns=())
    assert statistics.ratings(run)[0].mean is None


@pytest.mark.parametrize("total", [40, 400])
def test_the_interval_is_that_of_the_normal_distribution(total: int) -> None:
    wins, losses = round(total * 0.6), total - round(total * 0.6)
    low, high = statistics.interval(wins, losses, 0)
    spread = 1.96 * (0.6 * 0.4 / total) ** 0.5
    assert low == pytest.approx(0.6 - spread, abs=0.03)
    assert high == pytest.approx(0.6 + spread, abs=0.03)
    assert statistics.interval(total, 0, 0) == (1.0, 1.0)


def test_ratings_of_each_column(run: Run, people: list[User]) -> None:
    for number, value in enumerate((1, 2, 2, 5), start=1):
        reviews.rate(answer=answer(run, number, 1), reviewer=people[0], value=value)
    small, large, _ = statistics.ratings(run)
    assert (small.count, small.mean) == (0, None)
    assert (large.count, large.mean, large.distribution) == (4, 2.5, (1, 2, 0, 0, 1))


def test_reviewers_agree(run: Run, people: list[User]) -> None:
    """Worked by hand: 8 ratings of ada and ben, 6 of them equal, and one of cleo."""
    ada, ben, cleo = people
    by_ada, by_ben = (1, 1, 1, 1, 2, 2, 2, 2), (1, 1, 1, 2, 2, 2, 2, 1)
    for number, (first, second) in enumerate(zip(by_ada, by_ben, strict=True), start=1):
        reviews.rate(answer=answer(run, number, 0), reviewer=ada, value=first)
        reviews.rate(answer=answer(run, number, 0), reviewer=ben, value=second)
    reviews.rate(answer=answer(run, 1, 0), reviewer=cleo, value=1)
    ratings, preferences, _ = agreement.agreement(run)
    cohen = {figure.reviewers: figure for figure in ratings.figures if figure.name == "cohen"}
    assert (ratings.about, ratings.labels) == ("ratings", 17)
    assert cohen["ada", "ben"].value == pytest.approx(0.5)
    assert (cohen["ada", "ben"].items, cohen["ada", "cleo"].items) == (8, 1)
    assert cohen["ada", "ben"].sentence == (
        "Cohen's kappa of ada and ben is 0.50, over 8 ratings that they share: moderate agreement."
    )
    fleiss, alpha = ratings.figures[-2:]
    assert (fleiss.name, fleiss.items, alpha.name, alpha.items) == ("fleiss", 1, "alpha", 8)
    assert alpha.value == pytest.approx(1 - (4 / 17) / (2 * 9 * 8 / (17 * 16)))  # observed, expected disagreement
    assert preferences.figures[0].value is None
    assert "needs two reviewers who decided about the same preferences" in preferences.figures[0].sentence


def test_everybody_agreeing_is_one(run: Run, people: list[User]) -> None:
    for who in people:
        for number in range(1, 7):
            prefer(run, number, 0, 1, "left" if number % 2 else "tie", who)
    preferences = agreement.agreement(run)[1]
    assert {figure.name: figure.value for figure in preferences.figures} == {"cohen": 1.0, "fleiss": 1.0, "alpha": 1.0}
    assert preferences.figures[-1].sentence.endswith("over 6 preferences that they share: reliable.")


def test_stars_where_each_reviewer_has_one(run: Run, people: list[User]) -> None:
    Dataset.objects.update(star_policy=Dataset.StarPolicy.REVIEWER)
    run.dataset.refresh_from_db()
    for number in range(1, 5):
        for who, position in zip(people[:2], (0, number % 2), strict=True):
            reviews.star(answer=answer(run, number, position), reviewer=who)
    stars = agreement.agreement(run)[2]
    assert (stars.about, stars.labels, stars.figures[0].items) == ("stars", 8, 4)
    assert stars.figures[0].value == pytest.approx(0.0)


def test_a_judge_against_people(run: Run, people: list[User], project: Project) -> None:
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Right?")
    for number, (score, values) in enumerate([(5, (5, 5)), (4, (4, 5)), (3, (5, 5)), (1, (1, 1)), (2, ())], start=1):
        Judgement.objects.create(judge=judge, answer=answer(run, number, 0), score=score)
        for who, value in zip(people, values, strict=False):
            reviews.rate(answer=answer(run, number, 0), reviewer=who, value=value)
    found = agreement.judge_agreement(judge)
    assert (found.answers, found.exact, found.within_one) == (4, 0.5, 0.75)
    assert found.confusion[4][4] == found.confusion[4][2] == found.confusion[0][0] == 1
    assert found.alpha.value is not None
    assert 0.5 < found.alpha.value < 1
    assert found.sentence == (
        "Of 4 answers with both, the judge says the same as people for 50%, and is at most one off for 75%."
    )


def test_a_judge_that_nobody_can_check(run: Run, project: Project) -> None:
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Right?")
    found = agreement.judge_agreement(judge)
    assert (found.answers, found.exact, found.alpha.value) == (0, None, None)


def test_it_takes_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "SECONDS", 0.001)
    with pytest.raises(DomainError, match="takes too long"):
        agreement._compute("[]")


def test_the_server_does_not_load_it() -> None:
    code = "import django; django.setup(); import apps.datasets.reviews.agreement, sys; print('nltk' in sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == "False"
