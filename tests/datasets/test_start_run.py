"""Starting a run: what is refused before anything is made, and what a worker makes of it."""

import json
from typing import Any

import pytest

from apps.accounts.models import ApiKey, Project
from apps.batches.models import Batch, File, Request
from apps.core.errors import DomainError
from apps.core.leases import Keeper
from apps.datasets.models import Column, Example, Item, Member, Run, RunBatch, Split, Version
from apps.datasets.runs import sending
from apps.datasets.runs import services as runs
from apps.events.models import Event
from apps.models.models import Model
from tests.datasets import batchwork
from tests.datasets.batchwork import start
from tests.datasets.cast import make_version

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def version(project: Project) -> Version:
    return make_version(project)


def bodies(column: Column) -> list[dict[str, Any]]:
    requests = Request.objects.filter(batch__run_batch__column=column).order_by("batch_id", "line")
    return [json.loads(request.body) for request in requests]


def test_it_works(version: Version, model: Model, other: Model, keeper: Keeper) -> None:
    run = start(version, model, other, parameters={"temperature": 0.5, "max_tokens": 20}, samples=2)
    assert (run.items_total, run.name, run.items.count()) == (3, "capitals v1, 2 models", 3)
    assert list(run.columns.values_list("label", "due")) == [("test-model", True), ("other-model", True)]
    batchwork.send(keeper)
    assert not run.columns.filter(due=True).exists()
    batches = Batch.objects.order_by("pk")
    assert [(batch.status, batch.model_name, batch.total) for batch in batches] == [
        ("in_progress", "test-model", 3),
        ("in_progress", "other-model", 3),
    ]
    requests = Request.objects.filter(batch=batches[0]).order_by("line")
    assert [request.custom_id for request in requests] == ["1", "2", "3"]
    assert json.loads(requests[0].body) == {
        "model": "test-model", "messages": [{"role": "user", "content": "Capital of France?"}], "n": 2,
        "temperature": 0.5, "max_tokens": 20,
    }  # fmt: skip
    assert batches[0].metadata == {"run": run.uid, "column": "test-model"}


def test_it_starts_a_part_of_a_split(version: Version, model: Model, keeper: Keeper) -> None:
    split = Split.objects.create(version=version, name="halves", shares={"train": 70, "test": 30})
    parts = ["train", "test", "train"]
    for example, part in zip(Example.objects.order_by("number"), parts, strict=True):
        Member.objects.create(split=split, example=example, part=part)
    run = start(version, model, split=split, part="train")
    assert list(run.items.values_list("number", flat=True)) == [1, 3]
    assert start(version, model, split=split).items_total == 3


def test_it_leaves_out_what_another_version_has(project: Project, model: Model, version: Version) -> None:
    second = Version.objects.create(dataset=version.dataset, number=2, examples=2)
    Example.objects.filter(number=2).update(removed_in=2)
    assert start(version, model).items_total == 3
    assert list(start(second, model).items.values_list("number", flat=True)) == [1, 3]


def test_a_system_message_replaces_the_examples_own(version: Version, model: Model, keeper: Keeper) -> None:
    turns = [{"role": "system", "content": "Be long."}, {"role": "user", "content": "Hi"}]
    Example.objects.filter(number=1).update(messages=json.dumps(turns, indent=2))
    run = start(version, model, parameters={"system": "Be brief."})
    batchwork.send(keeper)
    messages = bodies(run.columns.get())[0]["messages"]
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_it_makes_several_batches_where_one_would_be_too_large(
    version: Version, model: Model, keeper: Keeper, settings: Any
) -> None:
    settings.BATCH_MAX_REQUESTS = 2
    start(version, model)
    batchwork.send(keeper)
    ranges = RunBatch.objects.order_by("pk").values_list("first", "last", "batch__total", "batch__status")
    assert list(ranges) == [(1, 2, 2, "in_progress"), (3, 3, 1, "in_progress")]


def test_it_makes_several_batches_of_many_bytes(version: Version, model: Model, keeper: Keeper, settings: Any) -> None:
    settings.BATCH_FILE_MAX_BYTES = 200
    start(version, model)
    batchwork.send(keeper)
    assert [batch.total for batch in Batch.objects.order_by("pk")] == [1, 1, 1]
    assert all(file.bytes <= 200 for file in File.objects.all())


def test_a_prompt_that_is_too_long_fails_alone(version: Version, model: Model, keeper: Keeper, settings: Any) -> None:
    settings.BATCH_LINE_MAX_BYTES = 1_000
    Example.objects.filter(number=2).update(messages=json.dumps([{"role": "user", "content": "x" * 2_000}]))
    run = start(version, model)
    batchwork.finish(keeper)
    column = run.columns.get()
    assert (column.answered, column.failed) == (2, 1)
    assert "too long" in batchwork.table(run)[1][0]


def test_prompts_that_are_all_too_long_end_the_run(
    version: Version, model: Model, keeper: Keeper, settings: Any
) -> None:
    settings.BATCH_LINE_MAX_BYTES = 10
    run = start(version, model)
    batchwork.finish(keeper)
    assert (run.columns.get().failed, Batch.objects.count()) == (3, 0)
    assert Event.objects.get(type="run.completed").data == {"id": run.uid}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"parameters": {"temperature": 3}}, "parameters.temperature"),
        ({"parameters": {"temperature": True}}, "parameters.temperature"),
        ({"parameters": {"temperature": float("nan")}}, "parameters.temperature"),
        ({"parameters": {"top_p": 0}}, "parameters.top_p"),
        ({"parameters": {"max_tokens": 1.5}}, "parameters.max_tokens"),
        ({"parameters": {"seed": 2**63}}, "parameters.seed"),
        ({"parameters": {"stop": ["x"] * 17}}, "parameters.stop"),
        ({"parameters": {"stop": 4}}, "parameters.stop"),
        ({"parameters": {"system": "a\0b"}}, "parameters.system"),
        ({"parameters": {"response_format": "json"}}, "parameters.response_format"),
        ({"parameters": {"response_format": {"x": "y" * 70_000}}}, "parameters.response_format.x"),
        ({"parameters": {"stream": True}}, "parameters"),
        ({"parameters": {"n": 4}}, "parameters"),
        ({"samples": 9}, "samples"),
        ({"samples": 0}, "samples"),
        ({"part": "train"}, "split"),
        ({"name": "x" * 101}, "name"),
    ],
)
def test_it_rejects_what_makes_no_sense(version: Version, model: Model, change: Any, param: str) -> None:
    with pytest.raises(DomainError) as refused:
        start(version, model, **change)
    assert refused.value.param == param
    assert not Run.objects.exists()
    assert not Item.objects.exists()


def test_it_rejects_models_that_cannot_be_asked(version: Version, model: Model, other: Model, project: Project) -> None:
    elsewhere = Project.objects.create(name="elsewhere")
    Model.objects.filter(pk=other.pk).update(project=elsewhere)
    key = ApiKey.objects.get(project=project)
    key.allowed_models = ["another"]
    for models, more in [((), {}), ((model, model), {}), ((other,), {}), ((model,), {"api_key": key})]:
        with pytest.raises(DomainError) as refused:
            start(version, *models, **more)
        assert refused.value.param == "models"
    Model.objects.filter(pk=model.pk).update(runner=Model.Runner.POOLING)
    model.refresh_from_db()
    with pytest.raises(DomainError, match="does not answer chats"):
        start(version, model)
    assert not Run.objects.exists()


def test_it_rejects_examples_of_others(version: Version, model: Model, project: Project) -> None:
    elsewhere = make_version(Project.objects.create(name="elsewhere"))
    with pytest.raises(DomainError, match="another project"):
        start(elsewhere, model, project=project)
    with pytest.raises(DomainError, match="another dataset"):
        start(elsewhere, model, project=project, dataset=version.dataset)
    with pytest.raises(DomainError, match="another version"):
        start(version, model, split=Split.objects.create(version=elsewhere, name="halves", shares={}))


def test_it_rejects_a_version_without_examples(version: Version, model: Model) -> None:
    Example.objects.update(removed_in=1)
    with pytest.raises(DomainError, match="no example"):
        start(version, model)
    assert not Run.objects.exists()


def test_it_survives_a_worker_that_dies_before_the_batches_are_made(
    version: Version, model: Model, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is files that nobody names; the next one to send removes them."""
    run = start(version, model)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sending.Sending, "create_batches", die)
        patch.setattr(sending.Sending, "undo", lambda _: None)  # a killed process does not tidy up
        patch.setattr("threading.excepthook", lambda _: None)
        assert sending.send_columns(keeper)
        assert sending.column_crew.wait(30)
    assert (File.objects.count(), Batch.objects.count(), run.columns.filter(due=True).count()) == (1, 0, 1)
    left = File.objects.get()
    batchwork.finish(keeper)
    assert (Batch.objects.count(), run.columns.get().answered) == (1, 3)
    assert not File.objects.filter(pk=left.pk).exists()


def test_it_survives_a_run_that_is_deleted_while_it_is_sent(
    version: Version, model: Model, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(version, model)
    store = sending.Sending.store

    def delete_meanwhile(self: sending.Sending, lines: Any) -> None:
        store(self, lines)
        runs.delete_run(run=Run.objects.get())

    monkeypatch.setattr(sending.Sending, "store", delete_meanwhile)
    batchwork.send(keeper)
    assert not Run.objects.filter(uid=run.uid).exists()
    assert (File.objects.count(), Batch.objects.count()) == (0, 0)


def test_it_survives_a_model_that_is_deleted_before_it_is_asked(version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    model.delete()
    batchwork.finish(keeper)
    column = run.columns.get()
    assert (column.answered, column.failed, column.due, column.model_name) == (0, 3, False, "test-model")
    assert Event.objects.filter(type="run.completed").count() == 1


def test_no_character_of_a_prompt_breaks_a_line(project: Project, model: Model, keeper: Keeper) -> None:
    text = "one\u2028two\u2029three\x85four\rfive"
    start(make_version(project, [text] * 2), model, parameters={"system": text})
    batchwork.send(keeper)
    batch = Batch.objects.get()
    written = File.objects.get(uid=batch.input_file_id).content.open("rb").read().decode()
    assert len(written.splitlines()) == written.count("\n") == 2
    for request in Request.objects.filter(batch=batch):
        assert [message["content"] for message in json.loads(request.body)["messages"]] == [text, text]
