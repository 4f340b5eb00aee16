"""What filters ask for is kept beside each item."""

from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import Project
from apps.datasets import items
from apps.datasets.models import Answer, Example, Item, Judge, Judgement, Rating, Review, Star
from apps.datasets.reviews.filters import INCOMPLETE
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db
MANY = 1_000


def test_it_works(project: Project) -> None:
    run = make_run(make_version(project), {"small": ["Paris", "Lima", None], "large": ["Paris.", "Lima", "Accra"]})
    rows = run.items.values_list("answered", "failed", "differs", "shortest", "longest")
    assert list(rows) == [(2, 0, True, 5, 6), (2, 0, False, 4, 4), (1, 1, False, 5, 5)]
    assert list(run.columns.values_list("answered", "failed")) == [(2, 1), (3, 0)]


def test_reviews_are_counted_in_every_run(project: Project) -> None:
    version, mia = make_version(project), make_reviewer(project)
    runs = [make_run(version, {"small": ["a", "b", "c"]}, name=name) for name in ("one", "two")]
    answer = Answer.objects.filter(column__run=runs[0]).order_by("example__number")[0]
    Star.objects.create(example=answer.example, answer=answer, reviewer=mia, shared=True)
    Rating.objects.create(answer=answer, reviewer=mia, value=4)
    Review.objects.create(example=answer.example, reviewer=mia, state=Review.State.REJECTED)
    items.refresh_reviews([answer.example_id])
    rows = Item.objects.filter(example=answer.example).order_by("run_id")
    facts = rows.values_list("starred", "rejected", "reviews", "rating")
    assert list(facts) == [(True, True, 1, 4), (True, True, 1, None)]  # a rating is of an answer, which one run has
    assert not Item.objects.filter(starred=True).exclude(example=answer.example).exists()


def test_edits_and_scores(project: Project) -> None:
    run, mia = make_run(make_version(project), {"small": ["a", "b", "c"]}), make_reviewer(project)
    answer = Answer.objects.order_by("example__number")[0]
    Answer.objects.create(column=answer.column, example=answer.example, text="long", edit_of=answer, author=mia)
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Is it right?")
    Judgement.objects.create(judge=judge, answer=answer, score=3)
    items.refresh_answers(run.pk, [answer.example_id])
    items.refresh_scores(run.pk, judge.pk, [answer.example_id])
    item = run.items.get(example=answer.example)
    assert (item.edited, item.longest, item.judge_score, item.differs) == (True, 4, 3.0, False)


def test_a_run_that_the_planner_does_not_know_yet(project: Project) -> None:
    """Statistics are of the run before it: its items are not read whole for each example."""
    version = make_version(project, [str(number) for number in range(MANY)])
    make_run(version, {"small": ["a"] * MANY}, name="known")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        run = make_run(version, {"small": ["b"] * MANY}, name="new")
        examples = list(run.items.values_list("example", flat=True))[: MANY // 2]
        judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Is it right?")
        Judgement.objects.bulk_create(
            Judgement(judge=judge, answer=answer, score=3) for answer in Answer.objects.filter(column__run=run)
        )
        for statement in (items._ANSWERS, items._SCORES):
            values: dict[str, Any] = {"run": run.pk, "judge": judge.pk, "examples": examples}
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", values)
            ((plans,),) = cursor.fetchall()
            assert thrown_away(plans[0]["Plan"]) <= 4 * MANY


def thrown_away(plan: dict[str, Any]) -> float:
    """Rows that were read in vain."""
    own = sum(value for name, value in plan.items() if name.startswith("Rows Removed by")) * plan["Actual Loops"]
    return float(own + sum(map(thrown_away, plan.get("Plans", ()))))


def test_sql_and_python_agree_on_what_is_no_whole_answer(project: Project) -> None:
    run = make_run(make_version(project), {"small": ["a", "b", "c"]})
    column, example = run.columns.get(), Example.objects.order_by("number")[0]
    kinds = [
        {"text": text, "tool_calls": calls, "refusal": refusal, "finish_reason": reason, "reasoning": "Hm"}
        for text in ("a", "", " \n\t")
        for calls in ("", "[]")
        for refusal in ("", "No.")
        for reason in ("", "stop", "length", "tool_calls", "content_filter", "LENGTH", "abort", "eos")
    ]
    Answer.objects.bulk_create(
        Answer(column=column, example=example, sample=number, **kind) for number, kind in enumerate(kinds, start=1)
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT a.id, <> FROM datasets_answer a".replace("<>", items.incomplete_of("a")))
        found = dict(cursor.fetchall())
    known = set(Answer.objects.filter(INCOMPLETE).values_list("pk", flat=True))
    for answer in Answer.objects.all():
        why = answer.incomplete
        assert (answer.pk in known) == (why is not None), answer.said
        assert found[answer.pk] == (why.code if why else ""), answer.said
