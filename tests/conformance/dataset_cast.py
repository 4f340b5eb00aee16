"""Datasets for the fuzzer, several of a kind. Runs in the site's shell."""

import json
from typing import Any

from apps.accounts.models import ApiKey, Project
from apps.datasets.exports.services import start_export
from apps.datasets.models import Answer, Duplicate, DuplicateSearch, Import, Judge, Run, Version
from tests.datasets.cast import make_reviewer, make_run, make_version

MANY = 6  # datasets
EXPORTS = 30
ANSWERS = {"small": ["Paris", "Lima", None], "large": ["Paris.", "Lima", "Accra"]}


def main() -> None:
    """Print ids by kind, as JSON. Reviews that come by the owner's key are ada's from now on."""
    project = Project.objects.get(name="ours")
    ada = make_reviewer(project, "ada")
    ApiKey.objects.filter(project=project, name="owner").update(created_by=ada)
    versions = [make_version(project, name=f"capitals {number}") for number in range(MANY)]
    runs = [
        make_run(version, {"small": ["Paris", "Lima", None], "large": ["Paris.", "Lima", "Accra"]})
        for version in versions
    ]
    print(json.dumps({**_ids(versions, runs), **_jobs(project, versions, runs)}))


def _ids(versions: list[Version], runs: list[Run]) -> dict[str, list[Any]]:
    answers = Answer.objects.filter(column__run__in=runs[:5], error="").order_by("pk")
    return {
        "datasets": [version.dataset.uid for version in versions],
        "runs": [run.uid for run in runs],
        "left": [f"answer_{answer.pk}" for answer in answers if answer.column.position == 0],
        "right": [f"answer_{answer.pk}" for answer in answers if answer.column.position == 1],
        "numbers": [1, 2, 3],
    }


def _jobs(project: Project, versions: list[Version], runs: list[Run]) -> dict[str, list[str]]:
    exports = [_export(runs[0]) for _ in range(EXPORTS)]
    judges = [Judge.objects.create(project=project, run=run, model_name="judge", rubric="Right?") for run in runs]
    return {
        "searches": [_search(project, version) for version in versions],
        "imports": [_import(project, version) for version in versions],
        "exports": exports,
        "judges": [judge.uid for judge in judges],
    }


def _search(project: Project, version: Version) -> str:
    first, second = version.dataset.examples.order_by("number")[:2]
    search = DuplicateSearch.objects.create(project=project, version=version, found=1, status="completed")
    Duplicate.objects.create(search=search, example=second, of=first, similarity=1)
    return search.uid


def _import(project: Project, version: Version) -> str:
    made = {"dataset": version.dataset, "file_id": "file-gone", "filename": "a.jsonl", "format": "jsonl"}
    return Import.objects.create(project=project, status="completed", **made).uid


def _export(run: Run) -> str:
    return start_export(dataset=run.dataset, format="chat", run=run, answers="column:large").uid
