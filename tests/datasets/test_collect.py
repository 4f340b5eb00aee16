"""Taking results over into answers: live, completely, once; whatever dies in between."""

import json
import subprocess
import sys
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import Project
from apps.batches.models import Batch, Request, Result
from apps.batches.services import cancel_batch
from apps.core import leases
from apps.core.errors import Conflict
from apps.core.leases import Keeper
from apps.datasets import items
from apps.datasets.models import Answer, Run, RunBatch, Version
from apps.datasets.runs import collecting
from apps.datasets.runs import services as runs
from apps.events.models import Event
from apps.models.models import Model
from tests.datasets import batchwork
from tests.datasets.batchwork import completion, refusal, start
from tests.datasets.cast import make_reviewer, make_version
from tests.stack.live import REPOSITORY

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def version(project: Project) -> Version:
    return make_version(project)


def counts(run: Run) -> list[tuple[int, int]]:
    return list(run.columns.order_by("position").values_list("answered", "failed"))


def facts(run: Run) -> list[tuple[Any, ...]]:
    """Everything of the answers but their keys and times."""
    fields = ("column_id", "example_id", "sample", "text", "error", "input_tokens", "output_tokens")
    return sorted(Answer.objects.filter(column__run=run).values_list(*fields))


def announced() -> int:
    return Event.objects.filter(type="run.completed").count()


def test_it_works(version: Version, model: Model, other: Model, keeper: Keeper) -> None:
    run = start(version, model, other)
    batchwork.finish(keeper)
    assert batchwork.table(run)[0] == ["test-model: Capital of France?", "other-model: Capital of France?"]
    assert counts(run) == [(3, 0), (3, 0)]
    answer = Answer.objects.order_by("pk")[0]
    assert (answer.finish_reason, answer.input_tokens, answer.output_tokens, answer.latency_ms) == ("stop", 5, 3, 40)
    assert list(run.items.values_list("answered", "failed", "differs")) == [(2, 0, True)] * 3
    assert list(RunBatch.objects.values_list("settled", "taken")) == [(True, 3), (True, 3)]
    assert Event.objects.get(type="run.completed").data == {"id": run.uid}


def test_answers_are_there_while_the_batch_runs(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    batchwork.send(keeper)
    assert not collecting.collect_answers(keeper)
    batchwork.answer(batchwork.waiting()[1:2])
    assert collecting.collect_answers(keeper)
    assert (counts(run), announced()) == ([(1, 0)], 0)
    assert batchwork.table(run) == [[""], ["test-model: Capital of Peru?"], [""]]
    assert not collecting.collect_answers(keeper)  # nothing new: a worker may rest
    batchwork.answer(batchwork.waiting())
    batchwork.collect(keeper)
    assert (counts(run), announced()) == ([(3, 0)], 0)
    batchwork.end(keeper)
    batchwork.collect(keeper)
    assert (counts(run), announced()) == ([(3, 0)], 1)


def test_each_choice_is_a_sample(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model, samples=2)
    batchwork.finish(keeper, lambda _: completion("long answer", "short", input_tokens=7, output_tokens=16))
    samples = Answer.objects.filter(example__number=1).order_by("sample")
    rows = samples.values_list("sample", "text", "input_tokens", "output_tokens")
    assert list(rows) == [(0, "long answer", 7, 11), (1, "short", 0, 5)]  # their sums are the request's
    assert counts(run) == [(3, 0)]


def test_thoughts_are_no_answer(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)

    def say(request: Request) -> dict[str, Any]:
        message = {"1": {"content": "", "reasoning_content": "hm"}, "2": {"content": None, "reasoning": "aha"}}
        said = message.get(request.custom_id, {"content": "x", "reasoning_content": "not this"})
        return completion("") | {"body": json.dumps({"choices": [{"message": said, "finish_reason": "length"}]})}

    batchwork.finish(keeper, say)
    fields = ("text", "reasoning", "finish_reason")
    assert list(Answer.objects.order_by("example__number").values_list(*fields)) == [
        ("", "hm", "length"), ("", "aha", "length"), ("x", "not this", "length"),
    ]  # fmt: skip
    for _ in range(2):
        column = run.columns.get()
        assert (column.answered, column.failed, column.incomplete, column.blank) == (3, 0, 3, 2)
        items.refresh_columns([column.pk])  # counts as the parts did
    assert list(run.items.values_list("incomplete", "shortest", "longest")) == [(1, 0, 0), (1, 0, 0), (1, 1, 1)]
    sentence = Answer.objects.order_by("example__number")[0].incomplete
    assert sentence == ("blank", "No answer: cut off after 3 tokens of reasoning.")


def test_calls_and_refusals_stand_apart(version: Version, model: Model, other: Model, keeper: Keeper) -> None:
    """Two models that call the same differ in the ids of their calls only."""
    run = start(version, model, other)

    def say(request: Request) -> dict[str, Any]:
        lake = "Orn" if request.custom_id == "1" else str(request.batch_id)
        call = {"id": f"c{request.batch_id}", "type": "function", "function": {"name": "f", "arguments": f'"{lake}"'}}
        said = {"content": None, "refusal": "No."} if request.custom_id == "3" else {"tool_calls": [call]}
        return completion("") | {"body": json.dumps({"choices": [{"message": said, "finish_reason": "tool_calls"}]})}

    batchwork.finish(keeper, say)
    first = Answer.objects.order_by("example__number", "column")[0]
    call = f'{{"id":"c{RunBatch.objects.order_by("pk")[0].batch_id}","function":{{"name":"f","arguments":"\\"Orn\\""}}'
    assert (first.text, first.tool_calls) == ("", f'[{call},"type":"function"}}]')
    assert list(run.items.values_list("differs", "incomplete")) == [(False, 0), (True, 0), (False, 2)]
    assert list(run.columns.values_list("incomplete", "blank")) == [(1, 0)] * 2


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"choices": [{"message": {"content": "a\\u0000b"}}]}', "a\N{REPLACEMENT CHARACTER}b"),
        ('{"choices": [{"message": {"content": "a\\ud800b"}}]}', "a\N{REPLACEMENT CHARACTER}b"),
        ('{"choices": [{"message": {"content": [{"type": "text", "text": "part"}]}}]}', "part"),
        ('{"choices": [{"message": {"content": ""}}]}', ""),
        ('{"choices": []}', "- The engine's answer is no chat completion."),
        ('{"choices": 4}', "- The engine's answer is no chat completion."),
        ("[" * 100_000, "- The engine's answer is no chat completion."),
        ("not JSON", "- The engine's answer is no chat completion."),
    ],
)
def test_it_survives_strange_answers(version: Version, model: Model, keeper: Keeper, body: str, text: str) -> None:
    run = start(version, model)
    batchwork.finish(keeper, lambda _: completion("") | {"body": body})
    assert batchwork.table(run) == [[text]] * 3
    assert RunBatch.objects.get().settled


def test_failures_say_why(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)

    def say(request: Request) -> dict[str, Any]:
        lost = {"failed": True, "error_code": "engine_timeout", "error_message": "Too slow."}
        return {"1": refusal("The prompt is too long."), "2": lost}.get(request.custom_id, refusal(""))

    batchwork.finish(keeper, say)
    assert batchwork.table(run) == [
        ["- The prompt is too long."], ["- Too slow."], ["- The request failed; the engine did not say why."],
    ]  # fmt: skip
    assert counts(run) == [(0, 3)]
    assert list(run.items.values_list("answered", "failed")) == [(0, 1)] * 3


def test_a_second_try_replaces_what_failed_and_nothing_else(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    mia = make_reviewer(version.dataset.project)
    batchwork.finish(keeper, lambda r: refusal() if r.custom_id != "3" else completion("kept"))
    failed = Answer.objects.get(example__number=1)
    Answer.objects.create(column=failed.column, example=failed.example, text="by hand", edit_of=failed, author=mia)
    assert runs.rerun_missing(run=run) == 1
    with pytest.raises(Conflict, match="still goes on"):
        runs.rerun_missing(run=run)
    batchwork.send(keeper)
    with pytest.raises(Conflict, match="still goes on"):
        runs.rerun_missing(run=run)
    assert [request.custom_id for request in batchwork.waiting()] == ["1", "2"]
    batchwork.answer(batchwork.waiting(), lambda r: completion("now") if r.custom_id == "1" else refusal("Again."))
    batchwork.end(keeper)
    batchwork.collect(keeper)
    assert batchwork.table(run) == [["now"], ["- Again."], ["kept"]]
    assert (counts(run), announced()) == ([(2, 1)], 2)
    assert Answer.objects.get(text="now").pk == failed.pk
    assert Answer.objects.get(text="by hand").edit_of_id == failed.pk
    runs.rerun_missing(run=run)
    batchwork.finish(keeper, lambda _: completion("at last"))
    with pytest.raises(Conflict, match="nothing is missing"):
        runs.rerun_missing(run=run)


def test_a_failure_never_replaces_an_answer(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting())
    batchwork.collect(keeper)
    good = facts(run)
    Result.objects.update(failed=True, body=None, error_message="Late.")
    RunBatch.objects.update(seen=0, taken=0)  # as if all of it came again, and worse
    batchwork.collect(keeper)
    batchwork.end(keeper)
    batchwork.collect(keeper)
    assert (facts(run), counts(run)) == (good, [(3, 0)])


def test_what_commits_late_is_not_lost(version: Version, model: Model, keeper: Keeper) -> None:
    """A result with an earlier id that appears after later ones were taken over."""
    run = start(version, model)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting())
    late = Result.objects.get(custom_id="2")
    pk = late.pk
    late.delete()
    batchwork.collect(keeper)
    assert counts(run) == [(2, 0)]
    late.pk = pk
    Result.objects.bulk_create([late])
    assert pk < RunBatch.objects.get().seen
    batchwork.collect(keeper)
    assert counts(run) == [(2, 0)]
    batchwork.end(keeper)
    batchwork.collect(keeper)
    assert (counts(run), batchwork.table(run)[1]) == ([(3, 0)], ["test-model: Capital of Peru?"])


def test_a_batch_that_was_cancelled_or_refused_leaves_no_gap(
    version: Version, model: Model, other: Model, keeper: Keeper
) -> None:
    run = start(version, model, other)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting()[:1])
    first, second = Batch.objects.order_by("pk")
    assert cancel_batch(batch=first)
    Batch.objects.filter(pk=second.pk).update(status="failed", errors=[{"message": "No such model."}])
    Request.objects.filter(batch=second).delete()
    batchwork.end(keeper)
    batchwork.collect(keeper)
    assert [column for row in batchwork.table(run) for column in row[1:]] == [
        "- Its batch was refused: No such model."
    ] * 3
    assert [row[0] for row in batchwork.table(run)] == [
        "test-model: Capital of France?", *["- This request was not executed: the batch was cancelled."] * 2,
    ]  # fmt: skip
    assert (counts(run), announced()) == ([(1, 2), (0, 3)], 1)


def test_it_survives_being_killed_between_and_within_chunks(
    version: Version, model: Model, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever dies at whatever step, the rows are the same in the end."""
    monkeypatch.setattr(collecting, "CHUNK", 2)
    run = start(version, model)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting(), lambda r: refusal() if r.custom_id == "2" else batchwork.echo(r))
    batchwork.end(keeper)
    for victim in (
        "items.refresh_answers",
        "runs.answers.fail_missing",
        "items.refresh_columns",
        "runs.services.announce",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"apps.datasets.{victim}", _die)
            with pytest.raises(KeyboardInterrupt):
                batchwork.collect(keeper)
        if not Answer.objects.exists():
            assert collecting.collect_answers(keeper)  # the first chunk, of two rows
            assert len(facts(run)) == 2
    batchwork.collect(keeper)
    once = facts(run)
    assert [(row[3], row[4]) for row in once] == [
        ("test-model: Capital of France?", ""), ("", "Too long."), ("test-model: Capital of Ghana?", ""),
    ]  # fmt: skip
    assert (counts(run), announced()) == ([(2, 1)], 1)
    assert not collecting.collect_answers(keeper)
    assert facts(run) == once


KILLED = """
import django, time
django.setup()
from apps.core.leases import Keeper
from apps.datasets import items
from apps.datasets.runs import answers, collecting
collecting.CHUNK = 20
refresh = items.refresh_answers
def slowly(*arguments):
    refresh(*arguments)
    print("within a chunk", flush=True)
    time.sleep(0.05)
items.refresh_answers = slowly
keeper = Keeper()
while collecting.collect_answers(keeper):
    print("between chunks", flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 5, 8])
def test_it_survives_a_killed_process(
    project: Project, model: Model, keeper: Keeper, process_env: dict[str, str], lines: int
) -> None:
    """Killed within a chunk or between two, by the number of lines that it said before."""
    run = start(make_version(project, [f"What is {number}?" for number in range(200)]), model)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting())
    batchwork.end(keeper)
    worker = subprocess.Popen([sys.executable, "-c", KILLED], cwd=REPOSITORY, env=process_env, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    for _ in range(lines):
        worker.stdout.readline()
    worker.kill()
    worker.wait()
    assert run.columns.get().answered == Answer.objects.count() == lines // 2 * 20
    with connection.cursor() as cursor:
        leases.free_dead(cursor)  # as whoever starts its successor does
    batchwork.collect(keeper)
    assert counts(run) == [(200, 0)]
    assert len({row[1] for row in facts(run)}) == len(facts(run)) == 200
    assert announced() == 1


def _die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_it_survives_a_run_that_is_deleted_meanwhile(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    batchwork.send(keeper)
    batchwork.answer(batchwork.waiting()[:1])
    batchwork.collect(keeper)
    runs.delete_run(run=run)
    batchwork.end(keeper)
    batchwork.collect(keeper)
    assert (Answer.objects.count(), RunBatch.objects.count(), Batch.objects.get().status) == (0, 0, "cancelled")
