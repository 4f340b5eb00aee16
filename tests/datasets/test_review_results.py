"""What a run's reviews say, on its page."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.accounts.models import Membership, Project
from apps.datasets.models import Assignment, Judge, Judgement, Run
from apps.datasets.reviews import services as reviews
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.test_review_page import answer, client_of, url

pytestmark = pytest.mark.django_db
PARTS = ("results_agreement", "results_judges", "results_progress")


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(make_version(project), {"tiny-1": ["Paris", "Lima", None], "huge-2": ["Paris!", "Lima", "Accra"]})


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


@pytest.fixture
def page(mia: User) -> Client:
    return client_of(mia)


def parts(page: Client, run: Run) -> str:
    return "".join(page.get(url(run, name)).content.decode() for name in PARTS)


def test_it_works(page: Client, run: Run, mia: User, project: Project) -> None:
    ben = make_reviewer(project, "ben")
    judge = Judge.objects.create(project=project, run=run, model_name="judge-7b", rubric="Right?", total=4, scored=2)
    for number in (1, 2):
        for who in (mia, ben):
            reviews.rate(answer=answer(run, number, 1), reviewer=who, value=3 + number)
            reviews.prefer(left=answer(run, number, 1), right=answer(run, number, 0), reviewer=who, verdict="left")
        Judgement.objects.create(judge=judge, answer=answer(run, number, 1), score=5)
    html = page.get(url(run, "results")).content.decode()
    assert "huge-2" in html
    assert "100 %" in html
    assert "<b>4.50</b> in 4" in html
    assert "not rated yet" in html  # the other one
    shown = parts(page, run)
    assert "Cohen&#x27;s kappa of ben and mia" in shown
    assert "Of 2 answers with both" in shown
    assert page.get(url(run, "results"), {"blind": "1"}).content.decode().count("No blind verdicts yet") == 1


def test_empty_parts_say_what_to_do(page: Client, run: Run) -> None:
    html = page.get(url(run, "results")).content.decode()
    assert "Nobody has compared two answers yet" in html
    shown = parts(page, run)
    assert all(part in shown for part in ("No judge yet", "Nothing is assigned", "No ratings yet"))


def test_examples_are_dealt_out(page: Client, run: Run, mia: User, project: Project) -> None:
    make_reviewer(project, "ben")
    make_reviewer(project, "vic", Membership.Role.VIEWER)
    form = page.get(url(run, "results")).content.decode()
    assert 'value="ben"' in form
    assert 'value="vic"' not in form
    body = {"reviewers": ["mia", "ben"], "overlap": "2", "which": "all"}
    said = page.post(url(run, "assign"), body, follow=True).content.decode()
    assert "3 examples are assigned to ben, mia." in said
    assert Assignment.objects.count() == 6
    reviews.set_state(example=answer(run, 1, 0).example, reviewer=mia, state="done")
    assert "1 of 3" in page.get(url(run, "results_progress")).content.decode()


@pytest.mark.parametrize(
    "body",
    [
        {"overlap": "1", "which": "all"},
        {"reviewers": ["mia"], "overlap": "2", "which": "all"},
        {"reviewers": ["mia"], "overlap": "many", "which": "all"},
        {"reviewers": ["mia"], "overlap": "1", "which": "some"},
        {"reviewers": ["nobody"], "overlap": "1", "which": "all"},
    ],
)
def test_it_rejects_what_cannot_be_dealt(page: Client, run: Run, body: dict[str, str]) -> None:
    assert page.post(url(run, "assign"), body, follow=True).status_code == 200
    assert not Assignment.objects.exists()


def test_strangers_and_viewers(run: Run, project: Project) -> None:
    stranger = client_of(make_reviewer(Project.objects.create(name="elsewhere"), "sam"))
    assert [stranger.get(url(run, name)).status_code for name in ("results", *PARTS)] == [404] * 4
    viewer = client_of(make_reviewer(project, "vic", Membership.Role.VIEWER))
    assert "Assign examples" not in viewer.get(url(run, "results")).content.decode()
    body = {"reviewers": ["vic"], "overlap": "1", "which": "all"}
    assert [who.post(url(run, "assign"), body).status_code for who in (stranger, viewer)] == [404, 404]
