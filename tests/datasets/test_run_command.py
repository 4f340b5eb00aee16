"""run_dataset: its own part, and one run from the command to the answers on the fake engine's real process."""

import json
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from apps.accounts.models import Project
from apps.batches.client import Client
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.models import Batch
from apps.batches.runner import Runner
from apps.batches.validate import validate_next
from apps.core.leases import Keeper
from apps.datasets.models import Answer, Member, Run, Split, Version
from apps.datasets.runs import collecting, sending
from apps.events import progress
from apps.events.models import Event
from apps.models.models import Model
from tests.batches.lender import Lender
from tests.datasets.cast import make_version

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL", 0.3)
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: Any) -> str:
    out = StringIO()
    call_command("run_dataset", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue().strip()


@pytest.fixture
def version(project: Project) -> Version:
    return make_version(project)


class Workers(threading.Thread):
    """The control duties, and a GPU worker's turns with a real runner on a real process, beside the command."""

    def __init__(self, lender: Lender) -> None:
        super().__init__()
        self.over = threading.Event()
        self.lender = lender

    def run(self) -> None:
        keeper = Keeper()
        while not self.over.wait(0.1):
            for duty in (sending.send_columns, validate_next, notice_ended, finalize_next, collecting.collect_answers):
                duty(keeper)
            if Batch.objects.runnable().exists():
                Runner(host=self.lender, keeper=keeper, window=8, client=_client, on_progress=_tell).run()
        sending.column_crew.wait(10)
        keeper.close()
        connections.close_all()


def _client(host: Any) -> Client:
    return Client(host.engine.spec.socket, alive=host.engine.alive, attempts=3, timeout=20)


async def _tell(_batches: set[str]) -> None:
    pass


@pytest.fixture
def workers(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    with Lender(tmp_path) as lender:
        workers = Workers(lender)
        workers.start()
        yield
        workers.over.set()
        workers.join()


def test_it_works(workers: None, version: Version, model: Model) -> None:
    """From the command to the answers: nothing stands in for anything but the model itself."""
    uid = call("capitals", "--model", "test-model", "--samples", 2, "--param", "max_tokens=4", "--wait")
    run = Run.objects.get(uid=uid)
    texts = Answer.objects.filter(column__run=run).order_by("example__number", "sample").values_list("text", flat=True)
    assert list(texts[:3]) == ["Answer to: Capital of"] * 3
    assert texts.count() == 6
    answer = Answer.objects.order_by("pk")[0]
    assert (answer.finish_reason, answer.input_tokens, answer.output_tokens) == ("length", 11, 4)
    column = run.columns.get()
    assert (column.answered, column.failed) == (3, 0)
    assert Batch.objects.get().output_file is not None
    assert Event.objects.get(type="run.completed").data == {"id": uid}


def test_failed_examples_are_an_exit_code(workers: None, version: Version, model: Model) -> None:
    for number, marker in ((2, "!400"), (3, "!garbage")):
        messages = json.dumps([{"role": "user", "content": marker}])
        version.dataset.examples.filter(number=number).update(messages=messages)
    with pytest.raises(CommandError, match="2 of 3 have no answer"):
        call("capitals", "--model", "test-model", "--wait")
    assert Answer.objects.get(example__number=2).error == "This request is marked !400."
    assert Answer.objects.get(example__number=3).error


def test_it_estimates(version: Version, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    call("capitals", "--model", "test-model", "--estimate", "--param", "max_tokens=10")
    said = capsys.readouterr().out
    assert "test-model" in said
    assert "30" in said
    assert not Run.objects.exists()


def test_it_runs_a_part_of_a_split_of_a_version(version: Version, model: Model) -> None:
    split = Split.objects.create(version=version, name="halves", shares={"train": 100})
    Member.objects.create(split=split, example=version.dataset.examples.get(number=2), part="test")
    uid = call("capitals", "--model", "test-model", "--version", 1, "--split", "halves:test", "--name", "mine")
    run = Run.objects.get(uid=uid)
    assert (run.items_total, run.part, run.name) == (1, "test", "mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "--model", "test-model"], "There is no dataset 'nothing'"),
        (["capitals", "--model", "nobody"], "nobody"),
        (["capitals", "--model", "test-model", "--version", "3"], "has no version 3. Versions: 1."),
        (["capitals", "--model", "test-model", "--split", "none"], "has no split 'none'"),
        (["capitals", "--model", "test-model", "--param", "max_tokens"], "A parameter is NAME=VALUE"),
        (["capitals", "--model", "test-model", "--param", "temperature=hot"], "temperature must be a number"),
        (["capitals", "--model", "test-model", "--samples", "99"], "samples must be from 1 to 8"),
        (["capitals", "--model", "test-model", "--model", "test-model"], "can be chosen once"),
    ],
)
def test_it_rejects_what_makes_no_sense(version: Version, model: Model, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        call(*arguments)
    assert message in str(refused.value)
    assert not Run.objects.exists()
