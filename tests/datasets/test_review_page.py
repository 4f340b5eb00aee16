"""The review page and what its keys ask for."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Membership, Project
from apps.datasets.models import Answer, Change, Example, Preference, Rating, Review, Run, Star
from apps.datasets.reviews import assignments, locks
from apps.datasets.reviews import services as reviews
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db

HOSTILE = (
    "<script>document.title='pwned'</script><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "\x1b[31mred\x1b[0m \u202egnirts\u202c </textarea></div>",
)


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(make_version(project), {"tiny-1": ["Paris", "Lima", None], "huge-2": ["Paris!", "Lima", "Accra"]})


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


@pytest.fixture
def page(mia: User) -> Client:
    return client_of(mia)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url(run: Run, name: str = "review", *more: Any) -> str:
    return reverse(f"admin:datasets_run_{name}", args=[run.pk, *more])


def answer(run: Run, number: int, position: int) -> Answer:
    found = Answer.objects.select_related("example__dataset", "column")
    return found.get(column__run=run, example__number=number, column__position=position, edit_of=None)


def do(client: Client, run: Run, verb: str, query: str = "", **body: Any) -> Any:
    return client.post(url(run, "review_do", verb) + query, json.dumps(body), content_type="application/json")


def test_it_works(page: Client, run: Run) -> None:
    shown = page.get(url(run))
    assert shown.status_code == 200
    html = shown.content.decode()
    assert 'id="row-1"' in html
    assert 'id="row-2"' not in html  # what differs is shown first
    assert "tiny-1" in html
    assert "2 answered" in html
    everything = page.get(url(run), {"show": "all"}).content.decode()
    assert [f'id="row-{number}"' in everything for number in (1, 2, 3)] == [True] * 3
    assert "<b>Failed.</b> Too slow." in everything


def test_a_decision_is_saved_and_the_row_comes_back(page: Client, run: Run, mia: User) -> None:
    said = do(page, run, "star", answer=answer(run, 1, 1).pk)
    assert said.status_code == 200
    assert Star.objects.get().answer == answer(run, 1, 1)
    assert said.json()["sentence"] == "Gold star for huge-2."
    assert "data-starred" in said.json()["html"]
    assert do(page, run, "star", answer=answer(run, 1, 1).pk).json()["sentence"] == "Nothing changed."
    undone = do(page, run, "undo", change=said.json()["change"])
    assert not Star.objects.exists()
    assert undone.json()["sentence"] == "Undone: the star of example 1."


def test_every_verb_reaches_its_service(page: Client, run: Run, mia: User) -> None:
    left, right = answer(run, 1, 0), answer(run, 1, 1)
    assert do(page, run, "rate", answer=left.pk, value=4).status_code == 200
    assert do(page, run, "prefer", left=right.pk, right=left.pk, verdict="left").status_code == 200
    assert do(page, run, "tag", number=1, tags=["Easy", "geo"]).status_code == 200
    assert do(page, run, "note", number=1, text="Look again.").status_code == 200
    assert do(page, run, "state", number=1, state="rejected").status_code == 200
    assert Rating.objects.get(answer=left).value == 4
    assert Preference.objects.get().verdict == "right"
    assert Example.objects.get(number=1).tags == ["easy", "geo"]
    review = Review.objects.get()
    assert (review.note, review.state) == ("Look again.", "rejected")
    html = page.get(url(run), {"show": "all"}).content.decode()
    assert all(
        part in html for part in ("<li>easy</li>", "Look again.", "huge-2 is better than tiny-1", "data-rejected")
    )
    assert do(page, run, "rate", answer=left.pk, value=None).status_code == 200
    assert not Rating.objects.exists()


def test_an_edit_is_a_row_of_its_own_with_its_changes(page: Client, run: Run) -> None:
    source = page.get(url(run, "review_source", answer(run, 1, 0).pk)).json()
    assert source["text"] == "Paris"
    said = do(page, run, "edit", answer=answer(run, 1, 0).pk, text="Paris, France", base=source["base"])
    assert said.status_code == 200
    assert answer(run, 1, 0).text == "Paris"
    html = said.json()["html"]
    assert "Your edit" in html
    assert "Paris<ins>, France</ins>" in html
    again = page.get(url(run, "review_source", answer(run, 1, 0).pk)).json()
    assert again["text"] == "Paris, France"  # one goes on from one's own edit
    assert do(page, run, "edit", answer=answer(run, 1, 0).pk, text=None, base=again["base"]).status_code == 200
    assert not Answer.objects.exclude(edit_of=None).exists()


def test_it_rejects_an_edit_of_a_text_that_changed_meanwhile(page: Client, run: Run, mia: User) -> None:
    base = page.get(url(run, "review_source", answer(run, 1, 0).pk)).json()["base"]
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="From another tab")
    said = do(page, run, "edit", answer=answer(run, 1, 0).pk, text="Mine", base=base)
    assert said.status_code == 409
    assert said.json()["theirs"] == "From another tab"
    assert Answer.objects.get(author=mia).text == "From another tab"
    assert do(page, run, "edit", answer=answer(run, 1, 0).pk, text="Mine", base=said.json()["base"]).status_code == 200
    assert Answer.objects.get(author=mia).text == "Mine"


def test_it_rejects_what_somebody_else_works_on(page: Client, run: Run, project: Project) -> None:
    ben = make_reviewer(project, "ben")
    locks.take(example=answer(run, 1, 0).example, reviewer=ben)
    assert "ben works on this" in page.get(url(run)).content.decode()
    said = do(page, run, "star", answer=answer(run, 1, 0).pk)
    assert (said.status_code, said.json()["code"]) == (409, "locked")
    assert do(page, run, "lock", number=1).status_code == 409
    locks.release(example=answer(run, 1, 0).example, reviewer=ben)
    assert do(page, run, "lock", number=1).status_code == 200
    assert do(page, run, "release", number=1).status_code == 200


def test_a_viewer_looks_only(run: Run, project: Project) -> None:
    viewer = client_of(make_reviewer(project, "vic", Membership.Role.VIEWER))
    html = viewer.get(url(run)).content.decode()
    assert "You may look" in html
    assert 'data-key="g"' not in html
    for verb in ("star", "rate", "edit", "lock", "undo"):
        said = do(viewer, run, verb, answer=answer(run, 1, 0).pk, number=1, value=3, text="x", base="")
        assert said.status_code == 403
        assert "curator" in said.json()["error"]
    assert not Change.objects.exists()


def test_a_stranger_finds_nothing(run: Run) -> None:
    stranger = client_of(make_reviewer(Project.objects.create(name="elsewhere"), "sam"))
    places = [
        url(run),
        url(run, "review_rows"),
        url(run, "review_progress"),
        url(run, "review_means"),
        url(run, "review_example", 1),
    ]
    places += [url(run, "review_text", 1), url(run, "review_source", answer(run, 1, 0).pk), url(run, "results")]
    assert [stranger.get(place).status_code for place in places] == [404] * len(places)
    assert do(stranger, run, "star", answer=answer(run, 1, 0).pk).status_code == 404
    assert stranger.post(url(run, "review_next")).status_code == 404
    assert Client().get(url(run)).status_code == 302


def test_answers_of_other_runs_are_not_there(page: Client, run: Run, project: Project) -> None:
    other = Project.objects.create(name="elsewhere")
    theirs = make_run(make_version(other), {"secret": ["a", "b", "c"]})
    for verb in ("star", "rate", "edit"):
        assert do(page, run, verb, answer=answer(theirs, 1, 0).pk, value=1, text="x", base="x").status_code == 409
    assert page.get(url(run, "review_source", answer(theirs, 1, 0).pk)).status_code == 409


def test_it_rejects_nonsense_with_a_sentence(page: Client, run: Run) -> None:
    for body in ("", "[]", "nonsense", '{"answer": "one"}', '{"answer": 1e400}', '{"answer": true}', '{"answer": -1}'):
        said = page.post(url(run, "review_do", "star"), body, content_type="application/json")
        assert said.status_code == 400, body
        assert said.json()["error"]
    assert do(page, run, "rate", answer=answer(run, 1, 0).pk, value=9).status_code == 400
    assert do(page, run, "state", number=1, state="great").status_code == 400
    assert do(page, run, "state", number=99, state="done").status_code == 409
    assert do(page, run, "star", answer=answer(run, 3, 0).pk).status_code == 400  # it failed
    assert do(page, run, "undo").status_code == 409
    assert do(page, run, "fly").status_code == 404
    assert page.get(url(run, "review_do", "star")).status_code == 405


@pytest.mark.parametrize(
    "query",
    [
        "show=some",
        "after=x",
        "after=99999999999",
        "baseline=9",
        "render=pdf",
        "rating_min=7",
        "column=8&column_is=failed",
    ],
)
def test_it_survives_addresses_that_make_no_sense(page: Client, run: Run, query: str) -> None:
    shown = page.get(f"{url(run)}?{query}")
    assert shown.status_code == 200
    assert "makes no sense" in shown.content.decode()
    assert page.get(f"{url(run, 'review_rows')}?{query}").status_code == 400


def test_the_state_of_the_page_is_in_its_address(page: Client, run: Run) -> None:
    query = {"show": "all", "failed": "yes", "baseline": "1", "diff": "1", "render": "markdown", "height": "l"}
    html = page.get(url(run), query).content.decode()
    assert 'id="row-3"' in html
    assert 'id="row-1"' not in html
    chip = next(link for link in html.split("<a ") if ">Failed</a>" in link)
    assert 'aria-current="true"' in chip
    assert "failed=" not in chip
    assert all(f"{name}={query[name]}" in chip for name in ("baseline", "diff", "render", "height"))


def test_pages_go_on_from_a_number_and_back(project: Project, page: Client) -> None:
    prompts = [f"Question {number}" for number in range(60)]
    run = make_run(make_version(project, prompts), {"a": prompts, "b": [f"{each}!" for each in prompts]})
    first = page.get(url(run, "review_rows")).json()
    assert (first["next"], first["previous"]) == ("?show=differs&after=25", "")
    assert page.get(url(run, "review_count")).json() == {"count": "60"}
    second = page.get(url(run, "review_rows") + first["next"]).json()
    assert second["html"].count('class="rv-row"') == 25
    assert (second["next"], second["previous"]) == ("?show=differs&after=50", "?show=differs")
    third = page.get(url(run, "review_rows") + second["next"]).json()
    assert third["html"].count('class="rv-row"') == 10
    assert (third["next"], third["previous"]) == ("", "?show=differs&after=25")


def test_the_number_of_queries_does_not_grow(
    project: Project, mia: User, page: Client, django_assert_max_num_queries: Any
) -> None:
    prompts = [f"Question {number}" for number in range(40)]
    runs = {}
    for count in (2, 40):
        version = make_version(project, prompts[:count], name=f"of {count}")
        runs[count] = make_run(version, {name: [f"{each} {name}" for each in prompts[:count]] for name in "abcd"})
    for number in range(1, 20):
        reviews.edit(answer=answer(runs[40], number, 0), reviewer=mia, text="Better")
        reviews.star(answer=answer(runs[40], number, 1), reviewer=mia)
    page.get(url(runs[2]))  # what is cached once
    with django_assert_max_num_queries(40) as few:
        page.get(url(runs[2]))
    with django_assert_max_num_queries(len(few)):
        page.get(url(runs[40]), {"diff": "1"})


def test_hostile_texts_are_inert(project: Project, mia: User, page: Client) -> None:
    run = make_run(make_version(project, HOSTILE), {"<b>evil</b>": HOSTILE, "fine": ["a", "b", "c"]}, name="<i>run</i>")
    reviews.note(example=answer(run, 1, 0).example, reviewer=mia, text="<script>note</script>")
    reviews.tag(example=answer(run, 1, 0).example, reviewer=mia, tags=["<script>tag"])
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="<script>edit</script>")
    for query in ({}, {"render": "markdown"}, {"render": "json"}, {"diff": "1"}, {"blind": "1"}, {"text": "<script>"}):
        html = page.get(url(run), {"show": "all", **query}).content.decode()
        assert "<script>document" not in html
        assert "<script>note" not in html
        assert "<script>tag" not in html
        assert "<script>edit" not in html
        assert "<img src=x" not in html
        assert 'src="http' not in html
        assert 'href="javascript' not in html
        assert "\u202e" not in html
        assert "\x1b" not in html
        assert "<b>evil" not in html
        assert "<i>run" not in html
    assert page.get(url(run, "review_text", 1), {"field": "prompt"})["Content-Type"] == "application/json"
    alone = page.get(url(run, "review_example", 1), {"show": "all"}).content.decode()
    assert "<script>note" not in alone
    assert "<script>edit" not in alone


def test_a_huge_answer_is_cut_and_comes_in_pieces(page: Client, run: Run) -> None:
    Answer.objects.filter(pk=answer(run, 1, 0).pk).update(text="é" * 5_000_000)
    html = page.get(url(run)).content.decode()
    assert len(html) < 200_000
    assert "Show all 5,000,000 characters" in html
    piece = page.get(url(run, "review_text", 1), {"answer": answer(run, 1, 0).pk, "from": 4000}).json()
    assert (len(piece["text"]), piece["next"]) == (100_000, 104_000)
    last = page.get(url(run, "review_text", 1), {"answer": answer(run, 1, 0).pk, "from": 4_999_990}).json()
    assert (len(last["text"]), last["next"]) == (10, None)
    assert len(page.get(url(run, "review_example", 1)).content) < 500_000


def test_one_example_shows_its_history(page: Client, run: Run, mia: User) -> None:
    reviews.star(answer=answer(run, 1, 0), reviewer=mia)
    reviews.star(answer=answer(run, 1, 1), reviewer=mia)
    reviews.edit(answer=answer(run, 1, 0), reviewer=mia, text="Long " * 10_000)
    reviews.undo(reviewer=mia, dataset=run.dataset)
    html = page.get(url(run, "review_example", 1), {"show": "all"}).content.decode()
    assert "gold star, from <q" in html
    assert ">tiny-1</q> to <q" in html
    assert "undone" in html
    assert len(html) < 100_000
    assert "Example 2" in html  # the next one
    assert page.get(url(run, "review_example", 99)).status_code == 404


def test_the_queue_goes_on_with_what_nobody_works_on(page: Client, run: Run, mia: User, project: Project) -> None:
    ben = make_reviewer(project, "ben")
    assignments.assign(run=run, reviewers=[mia])
    locks.take(example=answer(run, 1, 0).example, reviewer=ben)
    assert page.get(url(run), {"queue": "1"}).status_code == 200
    part = page.post(url(run, "review_next") + "?queue=1").json()
    assert part["number"] == 2
    assert 'id="row-2"' in part["html"]
    assert locks.holder(example=answer(run, 2, 0).example) == mia
    do(page, run, "state", number=2, state="done")
    assert page.post(url(run, "review_next") + "?queue=1&after=2").json()["number"] == 3
    do(page, run, "state", number=3, state="done")
    end = page.post(url(run, "review_next") + "?queue=1&after=3").json()
    assert end["number"] is None
    assert "Nothing is left for you" in end["html"]
    assert page.get(url(run, "review_progress")).json() == {"assigned": 3, "done": 2}


def test_figures_come_beside_the_page(page: Client, run: Run, mia: User) -> None:
    reviews.rate(answer=answer(run, 1, 1), reviewer=mia, value=4)
    assert page.get(url(run, "review_means")).json()["columns"] == [
        {"column": 1, "mean": 4.0, "ratings": 1, "up": 0, "down": 0}
    ]
    assert page.get(url(run, "review_progress")).json() == {"assigned": 3, "done": 0}


def test_blind_pairs_do_not_tell_names_before_the_vote(page: Client, run: Run, mia: User) -> None:
    html = page.get(url(run), {"blind": "1"}).content.decode()
    part = page.get(url(run, "review_rows"), {"blind": "1"}).json()["html"]
    for shown in (html, part):
        assert "tiny-1" not in shown
        assert "huge-2" not in shown
        assert "data-answer" not in shown
    mark = part.split('data-mark="')[1].split('"')[0]
    said = do(page, run, "vote", "?blind=1", number=1, mark=mark, verdict="left").json()
    assert "A is better" in said["html"]
    assert "<strong>tiny-1</strong>" in said["html"]
    vote = Preference.objects.get()
    assert vote.blind
    won = vote.left if vote.verdict == "left" else vote.right
    first = said["html"].split('data-column="0"')[1].split('rv-text" dir="auto">')[1].split("<")[0]
    assert first == won.text  # the left side, as it was seen


def test_it_rejects_a_vote_on_what_was_not_seen(page: Client, run: Run) -> None:
    part = page.get(url(run, "review_rows"), {"blind": "1"}).json()["html"]
    mark = part.split('data-mark="')[1].split('"')[0]
    Answer.objects.filter(pk=answer(run, 1, 0).pk).update(text="Something else")
    assert do(page, run, "vote", number=1, mark=mark, verdict="left").status_code == 409
    assert do(page, run, "vote", number=1, mark="", verdict="left").status_code == 409
    assert not Preference.objects.exists()


def test_every_pair_has_its_turns_on_both_sides(project: Project, mia: User, page: Client) -> None:
    prompts = [f"Question {number}" for number in range(100)]
    run = make_run(make_version(project, prompts), {name: [name] * 100 for name in "abc"})
    seen: dict[str, int] = {}
    query = "?blind=1"
    while query:
        part = page.get(url(run, "review_rows") + query).json()
        for row in part["html"].split('class="rv-row"')[1:]:
            sides = [cell.split('rv-text" dir="auto">')[1][0] for cell in row.split('class="rv-cell"')[1:]]
            seen["".join(sides)] = seen.get("".join(sides), 0) + 1
        query = part["next"]
    assert sorted(seen) == ["ab", "ac", "ba", "bc", "ca", "cb"]
    assert min(seen.values()) >= 5
