"""Answers with calls, thoughts and thumbs in exports; those that are not whole stay out, and are counted."""

import json
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key
from apps.core.errors import DomainError
from apps.datasets.exports.services import start_export, usual_answers
from apps.datasets.models import Answer, Rating, Run
from apps.datasets.reviews import services as reviews
from tests.conftest import client
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.exports import content, exported

pytestmark = pytest.mark.django_db(transaction=True)

CALL = {"id": "c1", "type": "function", "function": {"name": "depth", "arguments": '{"lake": "Orn"}'}}


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(
        make_version(project), {"small": ["Paris", "Lima", "Accra"], "large": ["Paris.", "Lima.", "Accra."]}
    )


@pytest.fixture
def people(project: Project) -> list[User]:
    return [make_reviewer(project, name) for name in ("ada", "ben", "cleo")]


def answer(run: Run, number: int, position: int, **values: Any) -> Answer:
    found = Answer.objects.filter(column__run=run, example__number=number, column__position=position, edit_of=None)
    if values:
        found.update(**values)
    return found.select_related("example__dataset__project", "column").get()


def rows(run: Run, chosen: str, **choices: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(exported(run, chosen, **choices)).decode().splitlines()]


def thumbs(answer: Answer, people: list[User], *verdicts: str) -> None:
    for who, verdict in zip(people, verdicts, strict=False):
        reviews.thumb(answer=answer, reviewer=who, verdict=verdict)


def test_it_works(run: Run, people: list[User]) -> None:
    """The majority decides; as many up as down is a tie, which is left out and counted."""
    thumbs(answer(run, 1, 0), people, "up", "up", "down")
    thumbs(answer(run, 1, 1), people, "down")
    thumbs(answer(run, 2, 0), people, "up", "down")
    assert usual_answers("kto", run) == "thumbs"
    export = exported(run, "kto")
    found = [json.loads(line) for line in content(export).decode().splitlines()]
    assert [(row["completion"][0]["content"], row["label"]) for row in found] == [("Paris", True), ("Paris.", False)]
    counts = export.manifest["counts"]
    assert (counts["rows"], counts["left_out"], counts["incomplete"]) == (2, 0, {"tie": 1})
    assert counts["reasons"]["As many thumbs up as down."] == 1
    assert "1 answers have as many thumbs up as down" in export.message
    assert export.manifest["reviewers"]["ada"]["thumbs"] == 3


def test_without_thumbs_there_is_nothing(run: Run) -> None:
    assert usual_answers("kto", run) == "preferences"
    with pytest.raises(DomainError, match="nothing to export"):
        start_export(dataset=run.dataset, format="kto", run=run, answers="thumbs")


def test_calls_and_thoughts_of_answers_are_exported(run: Run, people: list[User]) -> None:
    called = answer(
        run, 1, 0, text="", reasoning='I "look"', tool_calls=msgspec.json.encode([CALL]).decode(),
        finish_reason="tool_calls",
    )  # fmt: skip
    thought = answer(run, 2, 0, reasoning="Hm\n", text='Li"ma')
    for each in (called, thought):
        reviews.star(answer=each, reviewer=people[0])
        thumbs(each, people, "up")
    thumbs(answer(run, 1, 1), people, "down")
    last = [row["messages"][-1] for row in rows(run, "chat")]
    assert last[0]["tool_calls"] == [CALL]
    assert (last[0]["content"], last[0]["reasoning_content"]) == (None, 'I "look"')
    assert (last[1]["content"], last[1]["reasoning_content"]) == ('Li"ma', "Hm\n")
    labelled = rows(run, "kto", answers="thumbs")
    assert labelled[0]["completion"][0]["tool_calls"][0]["function"]["name"] == "depth"
    assert sorted(row["label"] for row in labelled) == [False, True, True]
    pairs = rows(run, "dpo", answers="starred_pairs")
    assert sorted(pair["non_preferred_output"][0]["content"] for pair in pairs) == ["Lima.", "Paris."]
    assert pairs[0]["preferred_output"][0]["tool_calls"][0]["function"]["name"] == "depth"


def test_the_same_call_twice_is_no_pair(run: Run, people: list[User]) -> None:
    """Whatever its id is."""
    for position, id_ in enumerate(("c1", "c2")):
        answer(run, 1, position, text="", tool_calls=msgspec.json.encode([CALL | {"id": id_}]).decode())
    for number in (1, 2):
        reviews.star(answer=answer(run, number, 0), reviewer=people[0])
    assert len(rows(run, "dpo", answers="starred_pairs")) == 1


def test_a_call_that_is_no_json_is_left_out(run: Run, people: list[User]) -> None:
    broken = CALL | {"function": {"name": "depth", "arguments": "{lake"}}
    for number, values in ((1, {"text": "", "tool_calls": json.dumps([broken])}), (2, {})):
        reviews.star(answer=answer(run, number, 0, **values), reviewer=people[0])
    export = exported(run, "chat")
    assert (export.rows, export.manifest["counts"]["left_out"]) == (1, 1)


NOT_WHOLE: list[dict[str, Any]] = [
    {"text": "", "reasoning": "Hm", "finish_reason": "length"},
    {"text": "Par", "finish_reason": "length"},
    {"text": "No.", "refusal": "No."},
    {"text": "P", "finish_reason": "content_filter"},
]


@pytest.mark.parametrize("values", NOT_WHOLE)
@pytest.mark.parametrize("answers", ["column:small", "best_rated", "preferences"])
def test_what_is_not_whole_stays_out_unless_it_is_meant(
    run: Run, people: list[User], values: dict[str, Any], answers: str
) -> None:
    for number in (1, 2):
        better, worse = answer(run, number, 0), answer(run, number, 1)
        Rating.objects.create(answer=better, reviewer=people[0], value=5)
        reviews.prefer(left=better, right=worse, reviewer=people[0], verdict="left")
    answer(run, 1, 0, **values)
    chosen = "dpo" if answers == "preferences" else "chat"
    export = exported(run, chosen, answers=answers)
    whole = export.rows
    assert whole == (2 if answers.startswith("column") else 1)
    assert sum(export.manifest["counts"]["incomplete"].values()) == 1
    assert "1 chosen answers were left out" in export.message
    more = exported(run, chosen, answers=answers, incomplete="include")
    assert more.rows == (whole if values["text"] == "" else whole + 1)
    assert ("left out" in more.message) == (values["text"] == "")


def test_what_was_starred_with_consent_is_exported(run: Run, people: list[User]) -> None:
    for number, values in ((1, NOT_WHOLE[0]), (2, NOT_WHOLE[1])):
        reviews.star(answer=answer(run, number, 0, **values), reviewer=people[0], accept=True)
    export = exported(run, "chat")
    assert (export.rows, export.manifest["counts"]["incomplete"]) == (1, {"blank": 1})
    assert "1 blank" in export.message


def test_a_bad_answer_may_be_cut_off(run: Run, people: list[User]) -> None:
    thumbs(answer(run, 1, 0, **NOT_WHOLE[1]), people, "down")
    assert [row["label"] for row in rows(run, "kto", answers="thumbs")] == [False]
    better, worse = answer(run, 1, 1), answer(run, 1, 0)
    reviews.prefer(left=better, right=worse, reviewer=people[0], verdict="left")
    assert rows(run, "dpo", answers="preferences")[0]["non_preferred_output"][0]["content"] == "Par"


def test_the_api_says_which(project: Project, run: Run, people: list[User]) -> None:
    answer(run, 1, 0, **NOT_WHOLE[1])
    api: APIClient = client(create_api_key(project=project, name="mia's", created_by=people[0])[1])
    body = {"dataset": run.dataset.uid, "run": run.uid, "format": "chat", "answers": "column:small"}
    assert api.post("/v1/exports", body, format="json").json()["incomplete"] == "leave_out"
    assert api.post("/v1/exports", body | {"incomplete": "include"}, format="json").json()["incomplete"] == "include"
    assert api.post("/v1/exports", body | {"incomplete": "perhaps"}, format="json").status_code == 400
