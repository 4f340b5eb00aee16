"""What was exported here is imported here again, and gives the same examples."""

import json

import pytest

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets.imports import job as importing
from apps.datasets.models import Dataset, Example, Import
from apps.datasets.services import start_import
from tests.datasets.exports import ANSWERS, exported, starred_run
from tests.datasets.files import ended

pytestmark = pytest.mark.django_db(transaction=True)

TALK = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Capital of France?"},
]  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
TRICKY = 'caf\u00e9 \u202e "quoted"\n\ttab \\ back \U0001f600 <b>'


@pytest.mark.parametrize("chosen", ["chat", "prompt_completion", "alpaca", "sharegpt", "parquet", "huggingface"])
def test_it_works(project: Project, keeper: Keeper, chosen: str) -> None:
    run = starred_run(project)
    Example.objects.filter(number=2).update(messages=json.dumps([{"role": "user", "content": TRICKY}]))
    if chosen not in ("prompt_completion", "alpaca"):  # which make one text of a conversation
        Example.objects.filter(number=1).update(messages=json.dumps(TALK))
    export = exported(run, chosen)
    again = imported(project, export.file, keeper)
    assert asked(again) == asked(run.dataset)
    assert list(again.examples.values_list("reference", flat=True)) == ANSWERS["large"]


@pytest.mark.parametrize("chosen", ["dpo", "trl", "parquet"])
def test_pairs(project: Project, keeper: Keeper, chosen: str) -> None:
    run = starred_run(project)
    Example.objects.filter(number=1).update(messages=json.dumps(TALK))
    again = imported(project, exported(run, chosen, answers="starred_pairs").file, keeper)
    assert asked(again) == [asked(run.dataset)[0], asked(run.dataset)[2]]
    assert list(again.examples.values_list("reference", "rejected")) == [("Paris.", "Paris"), ("It is Accra.", "Accra")]


def test_tools_come_through(project: Project, keeper: Keeper) -> None:
    run = starred_run(project)
    Example.objects.filter(number=1).update(data=json.dumps({"tools": TOOLS}))
    again = imported(project, exported(run, "chat").file, keeper)
    assert json.loads(again.examples.get(number=1).data)["tools"] == TOOLS


def imported(project: Project, file: object, keeper: Keeper) -> Dataset:
    dataset = Dataset.objects.create(project=project, name="again")
    job = ended(start_import(dataset=dataset, file=file), keeper, importing.KIND)  # type: ignore[arg-type]
    assert job.status == Import.Status.COMPLETED, (job.message, job.errors)
    return dataset


def asked(dataset: Dataset) -> list[list[tuple[str, str]]]:
    """Role and content of each example's messages."""
    examples = [json.loads(text) for text in dataset.examples.order_by("number").values_list("messages", flat=True)]
    return [[(message["role"], message["content"]) for message in messages] for messages in examples]
