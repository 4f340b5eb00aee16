"""What a deployment is asked, from whatever the job learned."""

from typing import Any

import pytest

from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import delete_file
from apps.models.models import Model
from apps.training.deployments.prompts import COUNT, USUAL, prompts_of
from apps.training.models import TrainingJob
from tests.training.cast import example, make_file, make_job, preference

pytestmark = pytest.mark.django_db(transaction=True)


def job_of(project: Project, model: Model, rows: list[Any], **more: Any) -> TrainingJob:
    return make_job(project, model, make_file(project, rows), **more)


def test_it_works(project: Project, model: Model) -> None:
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, *example(number)["messages"]]} for number in (1, 1, 2)]
    prompts = prompts_of(job_of(project, model, rows))
    assert prompts == [{"messages": [system, example(number)["messages"][0]]} for number in (1, 2)]


def test_there_are_eight_at_most(project: Project, model: Model) -> None:
    assert len(prompts_of(job_of(project, model, list(map(example, range(50)))))) == COUNT


def test_rows_of_the_validation_file_come_first(project: Project, model: Model) -> None:
    job = job_of(project, model, [example(1)])
    job.validation_file = make_file(project, [example(2)])
    texts = [prompt["messages"][0]["content"] for prompt in prompts_of(job)]
    assert texts == ["What is 2 + 2?", "What is 1 + 1?"]


def test_preferences_and_completions_are_asked_too(project: Project, model: Model) -> None:
    job = job_of(project, model, [preference(3)], method="dpo")
    assert prompts_of(job) == [{"messages": [{"role": "user", "content": "What is 3 + 3?"}]}]
    completion = {"prompt": "Two and two", "completion": " is four."}
    assert prompts_of(job_of(project, model, [completion])) == [{"prompt": "Two and two"}]


def test_long_and_broken_rows_are_passed_over(project: Project, model: Model) -> None:
    long = example(1)
    long["messages"][0]["content"] = "x" * 5_000
    huge = b'{"messages": "' + b"y" * 2_000_000 + b'"}'
    prompts = prompts_of(job_of(project, model, [long, b"{", huge, example(2)]))
    assert [prompt["messages"][0]["content"] for prompt in prompts] == ["What is 2 + 2?"]


def test_it_survives_files_that_are_gone(project: Project, model: Model) -> None:
    job = job_of(project, model, [example(1)])
    file = File.objects.get()
    file.content.storage.delete(str(file.content))
    assert prompts_of(job) == list(USUAL)
    delete_file(file=file)
    job.refresh_from_db()
    assert prompts_of(job) == list(USUAL)
