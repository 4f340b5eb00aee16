"""Whatever a worker takes on, one row that cannot be worked on ends as failed after a bounded number of tries.

Every duty and every kind of GPU work stands here: with a poisoned row, or with what bounds it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db.models import Model as Row

from apps.accounts.models import Project
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.models import Batch, File, Request, Result, Shard
from apps.batches.purge import purge_expired_files, purge_orphans
from apps.batches.validate import validate_next
from apps.core import attempts, duties, leases
from apps.core.models import Attempt, Lease
from apps.datasets import duplicates, services
from apps.datasets.exports import job as exporting
from apps.datasets.exports.services import start_export
from apps.datasets.imports import job as importing
from apps.datasets.models import Answer, DuplicateSearch, Export, Import, Judge, Judgement, Run, RunBatch
from apps.datasets.runs import collecting, judging, sending
from apps.events import dispatch
from apps.events.models import Event
from apps.events.services import announce
from apps.events.signals import SIGNALS
from apps.models import jobs, removal
from apps.models.benchmarks.services import start_benchmark
from apps.models.installs import duty as installing
from apps.models.installs.boot import settle_boots
from apps.models.models import Benchmark, Install, Model
from apps.training.deployments import placing
from apps.training.deployments.proving import settle_deployments
from apps.training.deployments.services import deploy
from apps.training.files import validation
from apps.training.models import Deployment, TrainingJob
from apps.training.work import go_on_where_there_is_room
from tests.batches.cast import end_line, make_batch, make_running
from tests.datasets import batchwork
from tests.datasets.cast import make_run, make_version
from tests.datasets.files import upload
from tests.training.cast import make_file, make_job
from tests.training.test_work import Host

pytestmark = pytest.mark.django_db(transaction=True)

BOUNDED = {
    "events": "attempts of its own, in the event's row: see test_deliver",
    "old events": "one statement",
    "old attempts": "one statement",
    "purge answers": "one statement",
    "forget demands": "one statement",
    "settle cancelled benchmarks": "one statement",
    "notice ended batches": "one statement for each batch, with constants only",
    "purge expired files": "a file's row goes first: test_files_that_cannot_be_removed",
    "purge uploads": "an upload's row ends before its parts are removed, each for itself",
    "purge orphans": "test_files_that_cannot_be_removed",
    "remove unused files": "test_a_folder_that_cannot_be_removed",
    "purge prepared training files": "test_prepared_files_that_cannot_be_removed",
    "interactive": "people who wait, for as long as they ask: its rows are forgotten by age",
    "batches": "shards: tests/batches/test_poison.py",
}


class Engine:
    """One that serves every model of the test, and answers nothing."""

    served = ("test-model",)


class EngineHost(Host):
    engine = Engine()


@dataclass
class World:
    project: Project
    model: Model
    folder: Path
    keeper: leases.Keeper
    patch: pytest.MonkeyPatch


@dataclass(frozen=True)
class Case:
    make: Callable[[World], Row]
    """A poisoned row."""
    work: Callable[[World], object]
    """One look of a worker at it, to its end."""
    ended: Callable[[Any], str]
    """How the row says that it failed; empty while it is open."""


def crewed(duty: Callable[[leases.Keeper], bool], crew: Any) -> Callable[[World], object]:
    def work(world: World) -> None:
        duty(world.keeper)
        for thread in crew._at_work.values():
            thread.join(60)

    return work


def on_gpu(kind: str) -> Callable[[World], object]:
    def work(world: World) -> None:
        for _ in jobs.kind(kind).backlog():
            jobs.kind(kind).run(EngineHost(), world.keeper, 4)  # type: ignore[arg-type]

    return work


def failed_message(row: Any) -> str:
    return str(row.message) if row.status == "failed" else ""


def put_folder_in_place_of(file: File) -> None:
    path = Path(file.content.path)
    path.unlink()
    path.mkdir()


def batch(world: World) -> Batch:
    made = make_batch(world.project)
    put_folder_in_place_of(File.objects.get(uid=made.input_file_id))
    return made


def batch_to_finalize(world: World) -> Batch:
    made = make_running(world.project, world.model, lines=1)
    end_line(made, 1)
    notice_ended(world.keeper)
    Batch.objects.filter(pk=made.pk).update(outcome="nonsense")
    return made


def batch_failed(row: Any) -> str:
    return str(row.errors[0]["message"]) if row.status == "failed" else ""


def an_import(world: World) -> Import:
    dataset = services.create_dataset(project=world.project, name="capitals")
    file = upload(world.project, '{"prompt": "a", "completion": "b"}\n')
    job = services.start_import(dataset=dataset, file=file)
    put_folder_in_place_of(file)
    return job


def a_search(world: World) -> DuplicateSearch:
    search = services.find_duplicates(version=make_version(world.project))
    DuplicateSearch.objects.filter(pk=search.pk).update(threshold=-1)
    return search


def an_export(world: World) -> Export:
    run = make_run(make_version(world.project), {"one": ["a", "b", "c"]})
    export = start_export(dataset=run.dataset, format="chat", run=run, answers="column:one")
    Export.objects.filter(pk=export.pk).update(format="nonsense")
    return export


def a_run(world: World) -> Run:
    return batchwork.start(make_version(world.project), world.model)


def a_column(world: World) -> Any:
    run = a_run(world)
    Run.objects.filter(pk=run.pk).update(parameters=["no", "parameters"])
    return run.columns.get()


def column_failed(column: Any) -> str:
    answer = Answer.objects.filter(column=column).exclude(error="").first()
    return answer.error if answer and not column.due else ""


def a_judge(world: World) -> Judge:
    run = make_run(make_version(world.project), {"one": ["a", "b", "c"]})
    judge = judging.start_judge(run=run, model=world.model, rubric="Is it right?")
    Judge.objects.filter(pk=judge.pk).update(parameters=["no", "parameters"])
    return judge


def judge_failed(judge: Any) -> str:
    return "" if judge.due else "tried 5 times"  # it has no message: what it was to score is counted as failed


def results_to_collect(world: World) -> RunBatch:
    a_run(world)
    batchwork.send(world.keeper)
    batchwork.answer(batchwork.waiting())
    Result.objects.update(custom_id="no number")
    return RunBatch.objects.get()


def collecting_failed(row: Any) -> str:
    return column_failed(row.column) if row.settled else ""


def an_install(world: World) -> Install:
    return Install.objects.create(source="\N{SNOWMAN} no source", name="m", project=world.project)


def a_boot(world: World) -> Install:
    def ask(*_: Any) -> str:
        raise KeyError("no such field")

    world.patch.setattr("apps.models.installs.boot.ask", ask)
    Model.objects.filter(pk=world.model.pk).update(ready=False)
    return Install.objects.create(source="a/b", name="m", model=world.model, status=Install.Status.BOOTING)


def a_boot_to_settle(world: World) -> Install:
    install = a_boot(world)

    def settle(*_: Any) -> bool:
        raise KeyError("no such field")

    world.patch.setattr("apps.models.installs.boot._settle", settle)
    return install


def a_benchmark(world: World) -> Benchmark:
    benchmark = start_benchmark(model=world.model)
    Benchmark.objects.filter(pk=benchmark.pk).update(sweep={"nonsense": 1})
    return benchmark


def a_job_to_validate(world: World) -> TrainingJob:
    file = make_file(world.project)
    job = make_job(world.project, world.model, file)
    put_folder_in_place_of(file)
    return job


def a_job_to_train(world: World) -> TrainingJob:
    job = make_job(world.project, world.model)
    job.advance(TrainingJob.Status.QUEUED)
    TrainingJob.objects.filter(pk=job.pk).update(options={"nonsense": 1})
    return job


def a_paused_job(world: World) -> TrainingJob:
    job = make_job(world.project, world.model)
    job.advance(TrainingJob.Status.QUEUED)
    job.advance(TrainingJob.Status.PAUSED, error_code="disk_full")
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    job.folder.write_text("a file where its folder should be")
    return job


def a_deployment(world: World) -> Deployment:
    job = make_job(world.project, world.model)
    job.advance(TrainingJob.Status.QUEUED)
    job.advance(TrainingJob.Status.SUCCEEDED)
    checkpoint = job.checkpoints.create(step=1, path=str(world.folder / "gone"), digest="", bytes=1, best=True)
    return deploy(checkpoint=checkpoint, name="tuned")


def a_deployment_to_place(world: World) -> Deployment:
    def work(*_: Any) -> None:
        raise KeyError("no such field")

    world.patch.setattr("apps.training.deployments.placing._Placing.run", work)
    return a_deployment(world)


def a_deployment_to_prove(world: World) -> Deployment:
    deployment = a_deployment(world)
    Deployment.objects.filter(pk=deployment.pk).update(
        status=Deployment.Status.PROVING, parity={"nonsense": 1}, model=world.model
    )
    return deployment


def a_deployment_to_settle(world: World) -> Deployment:
    def settle(*_: Any) -> bool:
        raise KeyError("no such field")

    world.patch.setattr("apps.training.deployments.proving._settle", settle)
    return a_deployment_to_prove(world)


def look(duty: Callable[[leases.Keeper], object]) -> Callable[[World], object]:
    return lambda world: duty(world.keeper)


POISONED = {
    "validate batches": Case(batch, look(validate_next), batch_failed),
    "finalize batches": Case(batch_to_finalize, look(finalize_next), batch_failed),
    "work on import jobs": Case(an_import, crewed(importing.KIND.duty, importing.KIND.crew), failed_message),
    "work on duplicates jobs": Case(a_search, crewed(duplicates.KIND.duty, duplicates.KIND.crew), failed_message),
    "work on export jobs": Case(an_export, crewed(exporting.KIND.duty, exporting.KIND.crew), failed_message),
    "send columns": Case(a_column, crewed(sending.send_columns, sending.column_crew), column_failed),
    "send judges": Case(a_judge, crewed(sending.send_judges, sending.judge_crew), judge_failed),
    "collect answers": Case(results_to_collect, look(collecting.collect_answers), collecting_failed),
    "install models": Case(an_install, crewed(installing.install_next, installing.crew), failed_message),
    "settle boots": Case(a_boot_to_settle, look(settle_boots), failed_message),
    "validate training files": Case(
        a_job_to_validate, crewed(validation.validate_next, validation.CREW), failed_message
    ),
    "go on where there is room": Case(a_paused_job, look(go_on_where_there_is_room), failed_message),
    "place deployments": Case(a_deployment_to_place, crewed(placing.place_next, placing.crew), failed_message),
    "settle deployments": Case(a_deployment_to_settle, look(settle_deployments), failed_message),
    "boot": Case(a_boot, on_gpu("boot"), failed_message),
    "benchmark": Case(a_benchmark, on_gpu("benchmark"), failed_message),
    "training": Case(a_job_to_train, on_gpu("training"), failed_message),
    "parity": Case(a_deployment_to_prove, on_gpu("parity"), failed_message),
}


@pytest.fixture
def world(
    project: Project, model: Model, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODELS_DIR = tmp_path / "models"
    keeper = leases.Keeper()
    yield World(project, model, tmp_path, keeper, monkeypatch)
    keeper.close()


def test_every_duty_and_kind_of_work_is_bounded() -> None:
    """A new one stands in one of the two tables, with a poisoned row or with its reason."""
    assert {*duties._duties, *jobs._kinds} == POISONED.keys() | BOUNDED.keys()
    assert not POISONED.keys() & BOUNDED.keys()


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_row_ends_as_failed(name: str, world: World) -> None:
    case = POISONED[name]
    row: Any = case.make(world)
    tried = 0
    while not case.ended(row):
        tried += 1
        assert tried <= django_settings.WORK_ATTEMPTS, f"it goes on for ever: {vars(row)}"
        attempts.wake("")
        case.work(world)
        row.refresh_from_db()
    assert tried == django_settings.WORK_ATTEMPTS
    message = case.ended(row)
    assert "tried 5 times" in message
    assert not any(hidden in message for hidden in ("Traceback", str(world.folder), str(django_settings.FILES_DIR)))
    assert Lease.objects.count() == 0
    case.work(world)
    row.refresh_from_db()
    assert case.ended(row) == message


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_row_rests_between_two_tries(name: str, world: World) -> None:
    case = POISONED[name]
    case.make(world)
    case.work(world)
    before = list(Attempt.objects.values_list("key", "attempts"))
    assert [tried for _, tried in before] == [1]
    case.work(world)
    assert list(Attempt.objects.values_list("key", "attempts")) == before


def test_a_judge_that_takes_down_its_reason_with_nul(world: World) -> None:
    """Its answer is text in which JSON may spell any character."""
    assert judging.read_score(json.dumps({"score": 4, "reason": "good\0\ud800"})) == (4, "good\ufffd\ufffd")
    assert Judgement.objects.count() == 0


def test_a_kind_whose_backlog_cannot_be_read_keeps_no_other_from_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def backlog(self) -> list[jobs.Job]:
            raise KeyError("a bug")

    make_running(world.project, world.model, lines=1)
    monkeypatch.setattr(jobs, "_kinds", {"broken": Broken(), **jobs._kinds})
    assert [job.kind for job in jobs.backlog()] == ["batches"]


def test_an_event_that_cannot_be_delivered_is_given_up(world: World) -> None:
    def receiver(**_: Any) -> None:
        raise ValueError("poison")

    SIGNALS["batch.failed"].connect(receiver)
    try:
        event = announce(type="batch.failed", project=world.project, data={"id": "x"})
        for _ in range(dispatch.ATTEMPTS + 3):
            Event.objects.filter(pk=event.pk, next_attempt_at__isnull=False).update(next_attempt_at=event.created_at)
            dispatch.deliver_due(world.keeper)
    finally:
        SIGNALS["batch.failed"].disconnect(receiver)
    event.refresh_from_db()
    assert (event.attempts, event.next_attempt_at) == (dispatch.ATTEMPTS, None)
    assert "poison" in event.last_error


def test_files_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    stuck, other = upload(world.project, "a"), upload(world.project, "b")
    put_folder_in_place_of(stuck)
    (Path(stuck.content.path) / "held").write_text("so that it is not empty")
    File.objects.update(expires_at=stuck.created_at)
    purge_expired_files(world.keeper)
    assert not File.objects.filter(pk__in=[stuck.pk, other.pk]).exists()
    assert not Path(other.content.path).exists()

    monkeypatch.setattr("apps.batches.purge._last_look", -1e9)
    monkeypatch.setattr("apps.batches.purge.ORPHAN_AGE", -60)
    settings.FILES_DIR = world.folder / "files"
    settings.FILES_DIR.mkdir()
    (settings.FILES_DIR / "a-\udcff").write_text("its name is no UTF-8")
    (settings.FILES_DIR / "b").write_text("an orphan")
    purge_orphans(world.keeper)
    assert not (settings.FILES_DIR / "b").exists()


def test_a_folder_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """It does not keep the worker busy, nor other folders where they are."""
    stuck, other = (settings.MODELS_DIR / "a--b" / (name * 40) for name in "12")
    for folder in (stuck, other):
        folder.mkdir(parents=True)
    real = shutil.rmtree

    def rmtree(path: Path, **how: Any) -> None:
        if path != stuck:
            real(path, **how)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert removal.remove_unused_files(world.keeper)
    assert not removal.remove_unused_files(world.keeper)
    assert (stuck.exists(), other.exists()) == (True, False)


def test_prepared_files_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    for name in ("ftjob-1", "ftjob-2"):
        (settings.TRAINING_DIR / name).mkdir(parents=True)
    (settings.TRAINING_DIR / "ftjob-1" / "train.jsonl").mkdir()
    (settings.TRAINING_DIR / "ftjob-2" / "train.jsonl").write_text("{}")
    monkeypatch.setattr(validation, "_last_look", -1e9)
    validation.purge_prepared(world.keeper)
    assert not (settings.TRAINING_DIR / "ftjob-2" / "train.jsonl").exists()


def test_a_run_goes_on_without_what_was_given_up(world: World) -> None:
    """A second run's results are taken over while those of the first one cannot be."""
    results_to_collect(world)
    good = batchwork.start(make_version(world.project, name="rivers"), world.model)
    batchwork.send(world.keeper)
    batchwork.answer([r for r in batchwork.waiting() if r.batch_id == RunBatch.objects.latest("pk").batch_id])
    collecting.collect_answers(world.keeper)
    assert good.columns.get().answered == 3
    assert Shard.objects.count() == 2
    assert Request.objects.count() == 6
