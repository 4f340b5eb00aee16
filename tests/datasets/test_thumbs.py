"""Thumbs up and down, and the question before an answer that is not whole becomes something to learn."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key
from apps.core.errors import Conflict, DomainError
from apps.datasets import items
from apps.datasets.models import Answer, Change, Item, Run, Star, Thumb
from apps.datasets.reviews import changes, statistics
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.agreement import agreement
from apps.datasets.reviews.filters import Filters
from apps.datasets.reviews.services import NeedsConsent
from apps.datasets.runs import services as runs
from tests.conftest import client
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.test_review_page import answer, client_of, do, url

pytestmark = pytest.mark.django_db

CUT = {"text": "", "reasoning": "four and four makes", "finish_reason": "length", "output_tokens": 7}
WHY = "No answer: cut off after 7 tokens of reasoning."


@pytest.fixture
def run(project: Project) -> Run:
    """Its first answer is cut off while the model thinks, and its second is one call of a tool."""
    run = make_run(make_version(project), {"small": ["Paris", "Lima", None], "large": ["Paris!", "Lima", "Accra"]})
    Answer.objects.filter(pk=answer(run, 1, 0).pk).update(**CUT)
    call = [{"id": "c1", "type": "function", "function": {"name": "depth", "arguments": '{"lake": "<Orn>"}'}}]
    Answer.objects.filter(pk=answer(run, 2, 0).pk).update(
        text="", tool_calls=json.dumps(call), finish_reason="tool_calls", reasoning="Hm <b>"
    )
    items.refresh_answers(run.pk, list(run.items.values_list("example", flat=True)))
    items.refresh_columns(list(run.columns.values_list("pk", flat=True)))
    return run


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


@pytest.fixture
def ben(project: Project) -> User:
    return make_reviewer(project, "ben")


@pytest.fixture
def page(mia: User) -> Client:
    return client_of(mia)


@pytest.fixture
def api(project: Project, mia: User) -> APIClient:
    return client(create_api_key(project=project, name="mia's", created_by=mia)[1])


def counts(run: Run, number: int) -> tuple[int, int]:
    item = Item.objects.get(run=run, number=number)
    return item.thumbs_up, item.thumbs_down


def numbers(run: Run, me: User | None = None, **filters: str) -> list[int]:
    found = Filters.parse(filters).apply(Item.objects.all(), run=run, reviewer=me)
    return list(found.order_by("number").values_list("number", flat=True))


def test_it_works(run: Run, mia: User, ben: User) -> None:
    """One a reviewer and an answer; another replaces it; each can be undone."""
    best = answer(run, 1, 1)
    change = reviews.thumb(answer=best, reviewer=mia, verdict="up")
    assert change is not None
    assert (change.kind, change.target, change.before, change.after) == ("thumb", {"answer": best.pk}, None, "up")
    reviews.thumb(answer=best, reviewer=ben, verdict="down")
    assert counts(run, 1) == (1, 1)
    assert reviews.thumb(answer=best, reviewer=mia, verdict="up") is None
    reviews.thumb(answer=best, reviewer=mia, verdict="down")
    assert (counts(run, 1), Thumb.objects.count()) == ((0, 2), 2)
    for wanted in ((1, 1), (0, 1)):
        assert reviews.undo(reviewer=mia, dataset=run.dataset)
        assert counts(run, 1) == wanted
    reviews.thumb(answer=best, reviewer=ben, verdict=None)
    assert (counts(run, 1), Thumb.objects.count()) == ((0, 0), 0)
    entry = changes.read(Change.objects.order_by("-pk")[:1])[0]
    assert (entry.kind, entry.before, entry.after, entry.target) == (
        "thumb", "down", None, {"answer": f"answer_{best.pk}"},
    )  # fmt: skip


def test_it_rejects_what_makes_no_sense(run: Run, mia: User) -> None:
    with pytest.raises(DomainError, match="one of up, down"):
        reviews.thumb(answer=answer(run, 1, 1), reviewer=mia, verdict="sideways")
    with pytest.raises(DomainError, match="failed"):
        reviews.thumb(answer=answer(run, 3, 0), reviewer=mia, verdict="down")


def test_filters_and_figures(run: Run, mia: User, ben: User) -> None:
    for number, position, who, verdict in (
        (1, 1, mia, "up"),
        (1, 1, ben, "up"),
        (2, 1, ben, "down"),
        (2, 0, mia, "up"),
    ):
        reviews.thumb(answer=answer(run, number, position), reviewer=who, verdict=verdict)
    assert numbers(run, thumb="up") == [1, 2]
    assert numbers(run, thumb="down") == [2]
    assert numbers(run, thumb="none") == [3]
    assert numbers(run, mia, thumb="mine") == [1, 2]
    assert numbers(run, thumb="mine", reviewer="ben") == [1, 2]
    assert numbers(run, incomplete="yes") == numbers(run, column="0", column_is="incomplete") == [1]
    assert numbers(run, incomplete="no") == [2, 3]
    assert numbers(run, column="1", column_is="incomplete") == []
    assert [(each.up, each.down) for each in statistics.thumbs(run)] == [(1, 0), (2, 1)]
    found = next(each for each in agreement(run) if each.about == "thumbs")
    assert found.labels == 4


def test_an_edit_with_a_thumb_is_not_removed_and_a_run_is(run: Run, mia: User, ben: User) -> None:
    reviews.edit(answer=answer(run, 1, 1), reviewer=mia, text="Paris.")
    edit = Answer.objects.select_related("example__dataset", "column").get(edit_of=answer(run, 1, 1))
    reviews.thumb(answer=edit, reviewer=ben, verdict="up")
    with pytest.raises(Conflict, match="thumbs"):
        reviews.edit(answer=answer(run, 1, 1), reviewer=mia, text=None)
    runs.delete_run(run=run)
    assert not Thumb.objects.exists()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (CUT, "blank_answer", WHY),
        ({"text": "fo", "finish_reason": "length"}, "cut_off_answer", "Cut off"),
        ({"text": "a", "finish_reason": "content_filter"}, "content_filter_answer", "filter"),
        ({"text": "", "refusal": "I cannot."}, "refused_answer", "The model refused: I cannot."),
    ],
)
def test_what_is_not_whole_is_starred_with_consent_only(
    run: Run, mia: User, change: dict[str, Any], code: str, words: str
) -> None:
    Answer.objects.filter(pk=answer(run, 1, 0).pk).update(**{"reasoning": "", "output_tokens": 0, **change})
    found = answer(run, 1, 0)
    for verb in (reviews.star, lambda **more: reviews.thumb(verdict="up", **more)):
        with pytest.raises(NeedsConsent, match=words) as refused:
            verb(answer=found, reviewer=mia)
        assert (refused.value.code, refused.value.param) == (code, "accept")
    assert not Change.objects.exists()
    assert reviews.thumb(answer=found, reviewer=mia, verdict="down")
    assert reviews.star(answer=found, reviewer=mia, accept=True)
    assert reviews.star(answer=found, reviewer=mia) is None


def test_an_edit_of_it_is_whole(run: Run, mia: User) -> None:
    """It keeps calls and thoughts, but no thought that was cut off."""
    for number, text in ((1, "Paris"), (2, "Wait.")):
        reviews.edit(answer=answer(run, number, 0), reviewer=mia, text=text)
    cut, called = Answer.objects.exclude(edit_of=None).select_related("example__dataset", "column").order_by("pk")
    assert (cut.reasoning, cut.tool_calls, cut.incomplete) == ("", "", None)
    assert (called.reasoning, called.tool_calls) == ("Hm <b>", answer(run, 2, 0).tool_calls)
    assert reviews.star(answer=cut, reviewer=mia)


def test_the_page_asks_first(page: Client, run: Run) -> None:
    found = answer(run, 1, 0)
    asked = do(page, run, "star", answer=found.pk)
    assert (asked.status_code, asked.json()["consent"], asked.json()["code"]) == (409, True, "blank_answer")
    assert WHY in asked.json()["error"]
    assert do(page, run, "star", answer=found.pk, accept="yes").status_code == 409
    assert do(page, run, "star", answer=found.pk, accept=True).status_code == 200
    assert Star.objects.get().answer == found


def test_the_page_takes_thumbs(page: Client, run: Run) -> None:
    best = answer(run, 1, 1)
    said = do(page, run, "thumb", answer=best.pk, verdict="up").json()
    assert said["sentence"] == "Thumb up for large."
    assert said["html"].count('data-thumb="up" aria-pressed="true"') == 1
    assert page.get(url(run, "review_means")).json()["columns"] == [
        {"column": 1, "mean": None, "ratings": 0, "up": 1, "down": 0}
    ]
    assert "1 thumb up, 0 down" in page.get(url(run, "results")).content.decode()
    said = do(page, run, "thumb", answer=best.pk, verdict=None).json()
    assert (said["sentence"], Thumb.objects.count()) == ("The thumb of large is taken away.", 0)
    assert "thumb" in page.get(url(run, "review_example", 1)).content.decode()


def test_cells_show_calls_thoughts_and_why_there_is_no_answer(page: Client, run: Run) -> None:
    html = page.get(url(run), {"show": "all"}).content.decode()
    assert f'<span class="rv-blank">{WHY}</span>' in html
    assert '<span class="rv-badge" data-tone="warn" title="' + WHY + '">length</span>' in html
    assert "<b>depth</b><pre>{\n  &quot;lake&quot;: &quot;&lt;Orn&gt;&quot;\n}</pre>" in html
    assert "Hm &lt;b&gt;" in html
    assert html.count('<summary tabindex="-1">Reasoning</summary>') == 2
    assert ">tool_calls</span>" not in html
    assert "1 incomplete" in html
    alone = page.get(url(run, "review_example", 2)).content.decode()
    assert "<b>depth</b>" in alone
    assert page.get(url(run, "review_text", 1), {"answer": str(answer(run, 1, 0).pk), "field": "reasoning"}).json() == {
        "text": "four and four makes", "next": None,
    }  # fmt: skip


def test_blind_cells_too(page: Client, run: Run) -> None:
    html = page.get(url(run), {"show": "all", "blind": "1"}).content.decode()
    assert WHY in html
    assert "<b>depth</b>" in html
    assert "data-thumb" not in html


def test_the_api_says_it_all(api: APIClient, run: Run) -> None:
    row = api.get(f"/v1/runs/{run.uid}/items/2").json()["cells"][0]["answers"][0]
    assert row["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "depth", "arguments": '{"lake": "<Orn>"}'}}
    ]
    assert (row["reasoning"]["text"], row["incomplete"], row["text"]["text"]) == ("Hm <b>", None, "")
    page = api.get(f"/v1/runs/{run.uid}/items").json()
    first = page["data"][0]["cells"][0]["answers"][0]
    assert first["incomplete"] == {"code": "blank", "message": WHY}
    assert [(column["incomplete"], column["blank"]) for column in page["columns"]] == [(1, 1), (0, 0)]
    assert [column["incomplete"] for column in api.get(f"/v1/runs/{run.uid}").json()["columns"]] == [1, 0]


def test_the_api_asks_first(api: APIClient, run: Run) -> None:
    path = f"/v1/answers/answer_{answer(run, 1, 0).pk}"
    for verb, body in (("star", {}), ("thumb", {"verdict": "up"})):
        refused = api.post(f"{path}/{verb}", body, format="json")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "blank_answer")
        assert refused.json()["error"]["param"] == "accept"
        assert api.post(f"{path}/{verb}", {**body, "accept": True}, format="json").json()["changed"]
    assert api.get(f"/v1/runs/{run.uid}/items/1").json()["cells"][0]["answers"][0]["thumb"] == "up"
    assert api.delete(f"{path}/thumb").json()["change"]["after"] is None
    assert api.get(f"/v1/runs/{run.uid}/results").json()["thumbs"][0] == {"column": 0, "up": 0, "down": 0}


def test_turns_with_calls_and_tools_are_shown(page: Client, run: Run) -> None:
    example = run.items.get(number=1).example
    call = {"id": "c1", "type": "function", "function": {"name": "deep", "arguments": '{"a": 1}'}}
    example.messages = json.dumps([
        {"role": "user", "content": "How deep?"},
        {"role": "assistant", "content": None, "reasoning_content": "I should ask.", "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": "41", "tool_call_id": "c1", "name": "deep"},
    ])  # fmt: skip
    example.request = json.dumps({"tools": [{"type": "function", "function": {"name": "deep", "parameters": {}}}]})
    example.reference_messages = json.dumps([{"role": "assistant", "content": "41 metres", "reasoning_content": "Ah."}])
    example.prompt = "How deep?"
    example.save()
    for html in (page.get(url(run)).content.decode(), page.get(url(run, "review_example", 1)).content.decode()):
        for words in ("<b>deep</b>", "I should ask.", "assistant, not learned", "tool deep", "41 metres", "Ah."):
            assert words in html, words
        assert "null" not in html.split("How deep?")[1].split("rv-cell")[0]
