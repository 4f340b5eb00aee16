"""Poisoned rows of datasets: imports, searches, exports, runs and judges."""

from typing import Any

from apps.batches.models import Result
from apps.datasets import duplicates, services
from apps.datasets.exports import job as exporting
from apps.datasets.exports.services import start_export
from apps.datasets.imports import job as importing
from apps.datasets.models import Answer, DuplicateSearch, Export, Import, Judge, Run, RunBatch
from apps.datasets.runs import collecting, judging, sending
from apps.datasets.runs.progress import RunTopic
from tests.core.poison import Case, World, crewed, failed_message, look, put_folder_in_place_of, watched
from tests.datasets import batchwork
from tests.datasets.cast import make_run, make_version
from tests.datasets.files import upload


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


def told_of_column(column: Any) -> str:
    snapshot = RunTopic().snapshot(column.run.uid)
    assert snapshot
    return str(snapshot["columns"][0]["message"])


def a_judge(world: World) -> Judge:
    run = make_run(make_version(world.project), {"one": ["a", "b", "c"]})
    judge = judging.start_judge(run=run, model=world.model, rubric="Is it right?")
    Judge.objects.filter(pk=judge.pk).update(parameters=["no", "parameters"])
    return judge


def judge_failed(judge: Any) -> str:
    return "" if judge.due else str(judge.message)


def results_to_collect(world: World) -> RunBatch:
    a_run(world)
    batchwork.send(world.keeper)
    batchwork.answer(batchwork.waiting())
    Result.objects.update(custom_id="no number")
    return RunBatch.objects.get()


def collecting_failed(row: Any) -> str:
    return column_failed(row.column) if row.settled else ""


CASES = {
    "work on import jobs": Case(
        an_import, crewed(importing.KIND.duty, importing.KIND.crew), failed_message, watched("import")
    ),
    "work on duplicates jobs": Case(
        a_search, crewed(duplicates.KIND.duty, duplicates.KIND.crew), failed_message, watched("duplicates")
    ),
    "work on export jobs": Case(
        an_export, crewed(exporting.KIND.duty, exporting.KIND.crew), failed_message, watched("export")
    ),
    "send columns": Case(a_column, crewed(sending.send_columns, sending.column_crew), column_failed, told_of_column),
    "send judges": Case(a_judge, crewed(sending.send_judges, sending.judge_crew), judge_failed, watched("judge")),
    "collect answers": Case(
        results_to_collect,
        look(collecting.collect_answers),
        collecting_failed,
        lambda row: told_of_column(row.column),
    ),
}
