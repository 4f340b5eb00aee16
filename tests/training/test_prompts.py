"""What a deployment is asked, from whatever the job learned."""

from typing import Any

import pytest

from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import delete_file
from apps.core import leases
from apps.models.models import Model
from apps.training.deployments.prompts import COUNT, UNSEEN, USUAL, calls_of, prompts_of, text_of
from apps.training.files.validation import CREW, validate_next
from apps.training.models import TrainingJob
from tests.training.cast import example, make_file, make_job, preference
from tests.training.validating import read

pytestmark = pytest.mark.django_db(transaction=True)


def job_of(project: Project, model: Model, rows: list[Any], **more: Any) -> TrainingJob:
    return make_job(project, model, make_file(project, rows), **more)


def validated(job: TrainingJob) -> TrainingJob:
    keeper = leases.Keeper()
    try:
        while validate_next(keeper):
            assert CREW.wait(60)
    finally:
        keeper.close()
    job.refresh_from_db()
    assert job.status == "queued", job.message
    return job


def test_it_works(project: Project, model: Model) -> None:
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, *example(number)["messages"]]} for number in (1, 1, 2)]
    found = prompts_of(job_of(project, model, rows))
    assert found.prompts == [{"messages": [system, example(number)["messages"][0]]} for number in (1, 2)]
    assert [text_of(reference) for reference in found.references] == ["It is 2.", "It is 4."]
    assert found.sources == ["training", "training"]
    assert found.guess == pytest.approx(2 / 3)


def test_there_are_so_many_at_most(project: Project, model: Model) -> None:
    job = job_of(project, model, list(map(example, range(50))))
    assert len(prompts_of(job).prompts) == COUNT
    job.validation_file = make_file(project, map(example, range(100, 150)))
    job.validation_file_uid = job.validation_file.uid
    found = prompts_of(job)
    assert found.sources == ["validation"] * UNSEEN


def test_rows_of_the_validation_file_come_first(project: Project, model: Model) -> None:
    valid = make_file(project, [example(2)])
    found = prompts_of(job_of(project, model, [example(1)], validation_file=valid))
    texts = [prompt["messages"][0]["content"] for prompt in found.prompts]
    assert texts == ["What is 2 + 2?", "What is 1 + 1?"]
    assert found.sources == ["validation", "training"]


@pytest.mark.parametrize(
    ("options", "source"), [({}, "held_out"), ({"validation_share": 0.2}, "validation"),
                            ({"held_out_share": 0.3, "validation_share": 0.2}, "held_out")],
)  # fmt: skip
def test_rows_that_were_kept_apart_come_first(
    project: Project, model: Model, settings: Any, tmp_path: Any, options: dict[str, Any], source: str
) -> None:
    settings.TRAINING_DIR = tmp_path
    job = validated(job_of(project, model, list(map(example, range(40))), options=options))
    learned = [row["messages"][0]["content"] for row in read(job, "train.jsonl")]
    found = prompts_of(job)
    asked: dict[str, list[str]] = {"training": [], source: []}
    for prompt, where in zip(found.prompts, found.sources, strict=True):
        asked[where].append(prompt["messages"][0]["content"])
    assert not set(asked[source]) & set(learned)
    assert set(asked["training"]) <= set(learned)
    assert len(asked[source]) == min(40 - len(learned) - (8 if len(options) > 1 else 0), UNSEEN)
    assert prompts_of(job) == found


def test_every_turn_and_tool_is_asked(project: Project, model: Model) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi", "weight": 0},
        {"role": "user", "content": "Add"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"}, {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Again"}, {"role": "assistant", "tool_calls": [call]},
    ]  # fmt: skip
    found = prompts_of(job_of(project, model, [{"messages": turns, "tools": tools}]))
    prompt, reference = found.prompts[0], found.references[0]
    assert [turn["role"] for turn in prompt["messages"]] == [turn["role"] for turn in turns[:-1]]
    assert prompt["messages"][5]["content"] == "Two."
    assert prompt["tools"] == tools
    assert all("weight" not in turn for turn in prompt["messages"])
    assert (text_of(reference), calls_of(reference)) == ("", (("add", {"a": 1}),))


def test_an_answer_that_was_not_learned_is_not_asked_for(project: Project, model: Model) -> None:
    turns = [*example(1)["messages"], *example(2)["messages"]]
    turns[-1]["weight"] = 0
    found = prompts_of(job_of(project, model, [{"messages": turns}]))
    assert found.prompts == [{"messages": turns[:1]}]
    assert text_of(found.references[0]) == "It is 2."


def test_preferences_and_completions_are_asked_too(project: Project, model: Model) -> None:
    found = prompts_of(job_of(project, model, [preference(3)], method="dpo"))
    assert found.prompts == [{"messages": [{"role": "user", "content": "What is 3 + 3?"}]}]
    assert text_of(found.references[0]) == "It is 6."
    assert found.references[0]
    assert found.references[0]["rejected"][0]["content"] == "I do not know."
    completion = {"prompt": "Two and two", "completion": " is four."}
    found = prompts_of(job_of(project, model, [completion]))
    assert (found.prompts, found.references) == ([{"prompt": "Two and two"}], [{"text": " is four."}])


def test_long_and_broken_rows_are_passed_over(project: Project, model: Model) -> None:
    long = example(1)
    long["messages"][0]["content"] = "x" * 9_000
    huge = b'{"messages": "' + b"y" * 2_000_000 + b'"}'
    prompts = prompts_of(job_of(project, model, [long, b"{", huge, example(2)])).prompts
    assert [prompt["messages"][0]["content"] for prompt in prompts] == ["What is 2 + 2?"]


def test_it_survives_files_that_are_gone(project: Project, model: Model) -> None:
    job = job_of(project, model, [example(1)])
    file = File.objects.get()
    file.content.storage.delete(str(file.content))
    assert prompts_of(job).prompts == list(USUAL)
    delete_file(file=file)
    job.refresh_from_db()
    found = prompts_of(job)
    assert (found.prompts, found.references) == (list(USUAL), [None] * len(USUAL))
