"""Every column and key of a file is used, kept or named as not used; what would be lost is asked for first."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.core.errors import Conflict
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports import accounting
from apps.datasets.imports.job import KIND
from apps.datasets.imports.sources import SAMPLE_ROWS
from apps.datasets.models import Dataset, Example, Import
from tests.datasets.files import ended, jsonl, upload

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = {"messages": [{"role": "user", "content": "Is coal white?"}, {"role": "assistant", "content": "No, black."}]}
PAIR = {"prompt": "Is coal white?", "chosen": "No, black.", "rejected": "Yes, snow white."}


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="colours")


def losses_of(dataset: Dataset, rows: Any, name: str = "rows.jsonl", **how: Any) -> dict[str, tuple[str, int, int]]:
    content = rows if isinstance(rows, str) else jsonl(rows)
    seen = services.preview(file=upload(dataset.project, content, name), **how)
    return {each.name: (each.becomes, each.rows, each.line) for each in seen.losses}


def uses_of(dataset: Dataset, rows: Any, name: str = "rows.jsonl", **how: Any) -> dict[str, tuple[str, str]]:
    content = rows if isinstance(rows, str) else jsonl(rows)
    seen = services.preview(file=upload(dataset.project, content, name), **how)
    return {each.name: (each.use, each.becomes) for each in seen.uses}


def start(dataset: Dataset, rows: list[Any], **options: Any) -> Import:
    return services.start_import(dataset=dataset, file=upload(dataset.project, jsonl(rows)), **options)


def test_it_works(dataset: Dataset) -> None:
    rows = [{**CHAT, "id": 7, "uuid": "u", "tags": ["a"], "tools": [], "source": "web", "level": None}]
    assert uses_of(dataset, rows) == {
        "messages": ("used", "messages"),
        "id": ("used", "key"),
        "uuid": ("kept", "metadata"),
        "tags": ("used", "tags"),
        "source": ("kept", "metadata"),
    }


@pytest.mark.parametrize(
    ("rows", "how", "lost"),
    [
        ([PAIR], {"shape": "columns"}, set()),
        ([PAIR], {"shape": "columns", "mapping": {"prompt": "{{ prompt }}"}}, {"chosen", "rejected"}),
        ([{**CHAT, **PAIR}], {"shape": "chat"}, {"rejected"}),
        ([{**CHAT, "label": False}], {"shape": "chat"}, {"label"}),
        ([{**CHAT, "weight": 0}], {}, {"weight"}),
        ([{**CHAT, "system": "Be short."}], {}, {"system"}),
        ([{**CHAT, "score_chosen": 0.0}], {}, {"score_chosen"}),
        ([{**PAIR, "score_chosen": 8.0, **CHAT}], {}, set()),
        ([{**PAIR, "messages": [*CHAT["messages"], {"role": "user", "content": "Sure?"}]}], {}, {"messages"}),
        ([{**PAIR, "question": "Is tin soft?"}], {}, {"question"}),
        ([{**PAIR, "question": "coal white?"}], {}, set()),
        ([{"instruction": "Who?", "input": "Tin", "output": "Ann"}], {}, set()),
        ([{"question": "Who?", "answers": ["Ann", "Anna"]}], {}, {"answers"}),
        ([{"question": "Who?", "answer": "Ann", "expected": "Anna"}], {}, {"expected"}),
        ([{"question": "Who?", "answer": "Ann", "expected": "Ann"}], {}, set()),
        ([{"question": "Who?", "answer": "Ann", "context": "Ann did."}], {}, {"context"}),
        ([{"instruction": "Who?", "output": "Ann", "tools": "[]", "functions": [{"name": "f"}]}], {},
         {"tools", "functions"}),
        ([{"conversations": [{"from": "human", "value": "Hi", "score": 3}, {"from": "gpt", "value": "Ho"}]}], {},
         {"conversations[].score"}),
        ([{"messages": [{"role": "user", "content": "Hi", "weight": 1, "date": None}]}], {}, {"messages[].weight"}),
        ([{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {**CHAT, "seed": 1}}], {}, set()),
    ],
)  # fmt: skip
def test_what_is_lost_is_named(dataset: Dataset, rows: list[Any], how: dict[str, Any], lost: set[str]) -> None:
    if not lost and how:
        how = {**how, "mapping": {"prompt": "{{ prompt }}", "reference": "{{ chosen }}", "rejected": "{{ rejected }}"}}
    assert set(losses_of(dataset, rows, **how)) == lost


def test_a_template_uses_the_columns_that_it_names(dataset: Dataset) -> None:
    rows = [{"a question": "Who?", "answer": "Ann", "level": 3, "id": 5, "label": "x"}]
    mapping = {"prompt": '{{ row["a question"] }}', "reference": "{% if level %}{{ answer }}{% endif %}"}
    used = uses_of(dataset, rows, shape="columns", mapping=mapping)
    assert used == {
        "label": ("not_used", "thumb up or down"),
        "a question": ("used", "question"),
        "answer": ("used", "chosen answer"),
        "level": ("used", "chosen answer"),
        "id": ("used", "key"),
    }
    assert not losses_of(dataset, rows, shape="columns", mapping={"prompt": "{{ row|tojson }}"})


def test_columns_of_a_batch_line_are_named_with_their_keys(dataset: Dataset) -> None:
    rows = [{"custom_id": "a", "body": {**CHAT, "temperature": 0}, "method": "POST", "url": "/v1/chat/completions"}]
    uses = uses_of(dataset, rows)
    assert uses["body.messages"][0] == "used"
    assert uses["body.temperature"] == uses["method"] == ("kept", "metadata")


def test_an_import_that_would_lose_something_asks(api: APIClient, dataset: Dataset, keeper: Keeper) -> None:
    rows = [CHAT, {**CHAT, "label": "bad"}, {**CHAT, "label": "good"}]
    file = upload(dataset.project, jsonl(rows))
    seen = api.post(f"/v1/datasets/{dataset.uid}/imports/preview", {"file_id": file.uid}, format="json").json()
    lost = {
        "name": "label", "use": "not_used", "becomes": "thumb up or down", "rows": 2, "line": 2, "loss": True,
    }  # fmt: skip
    assert seen["losses"] == [lost]
    assert seen["rows"] == 3
    answer = api.post(f"/v1/datasets/{dataset.uid}/imports", {"file_id": file.uid}, format="json")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (409, "import_would_lose_data", "accept_losses")
    assert "'label' (thumb up or down; 2 rows, the first in line 2)" in error["message"]
    assert not Import.objects.exists()
    body = {"file_id": file.uid, "accept_losses": True}
    made = api.post(f"/v1/datasets/{dataset.uid}/imports", body, format="json").json()
    job = ended(Import.objects.get(uid=made["id"]), keeper, KIND)
    assert (job.status, job.rows) == ("completed", 3)
    assert "Not used: 'label'" in job.message
    done = api.get(f"/v1/datasets/{dataset.uid}/imports/{job.uid}").json()
    assert done["uses"][0] == lost
    assert [use["name"] for use in done["uses"]] == ["label", "messages"]


def test_a_loss_that_shows_late_stops_the_import(dataset: Dataset, keeper: Keeper) -> None:
    late = {"messages": [{**CHAT["messages"][0], "score": 1}, CHAT["messages"][1]], "rejected": "Yes."}
    rows = [CHAT] * (SAMPLE_ROWS + 3) + [late, CHAT, late]
    job = ended(start(dataset, rows), keeper, KIND)
    assert job.status == "failed"
    assert "'messages[].score' (2 rows, the first in line 104)" in job.message
    assert "'rejected' (rejected answer; 2 rows, the first in line 104)" in job.message
    assert not Example.objects.exists()
    assert not dataset.versions.exists()
    assert {use["name"] for use in job.uses if use["loss"]} == {"messages[].score", "rejected"}
    job = ended(start(dataset, rows, accept_losses=True), keeper, KIND)
    assert (job.status, job.rows) == ("completed", len(rows))
    assert json.loads(Example.objects.get(number=104).data) == late


def test_an_example_knows_its_line(dataset: Dataset, keeper: Keeper) -> None:
    content = "\n\n" + jsonl([CHAT]) + "\n" + jsonl([CHAT])
    job = services.start_import(dataset=dataset, file=upload(dataset.project, content))
    ended(job, keeper, KIND)
    assert list(Example.objects.values_list("number", "line")) == [(1, 3), (2, 5)]


def test_many_columns_are_bounded(dataset: Dataset, keeper: Keeper) -> None:
    rows = [{**CHAT, f"column {n}": n} for n in range(2 * accounting.MAX_FIELDS)] + [{**CHAT, "label": True}]
    job = ended(start(dataset, rows, accept_losses=True), keeper, KIND)
    assert len(job.uses) <= accounting.MAX_FIELDS + 2
    (others,) = [use for use in job.uses if use["name"] == accounting.OTHERS]
    assert others["rows"] > accounting.MAX_FIELDS
    assert job.uses[0]["name"] == "label"
    counted = {use["name"]: use["rows"] for use in job.uses}
    assert counted["messages"] == len(rows)


def test_a_refusal_does_not_stop_who_accepts(dataset: Dataset) -> None:
    with pytest.raises(Conflict, match="Choose another shape or mapping"):
        start(dataset, [{**CHAT, "label": "good"}])
    assert start(dataset, [{**CHAT, "label": "good"}], accept_losses=True).accept_losses
