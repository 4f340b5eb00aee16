"""Base against tuned: a run of the workbench in which both answer the same examples, and what came out of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction

from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Dataset, Judge, Split, Version
from apps.datasets.runs import judging
from apps.datasets.runs import services as runs
from apps.models.models import Model
from apps.training.models import Deployment, Evaluation

PART = "test"
PARAMETERS: dict[str, Any] = {"temperature": 0, "seed": 0}
NAME_CHARACTERS = 80  # of the deployment's, in the run's

# Exact: the answer is the reference, or says it in other case and spacing. Judged: the latest score of each answer.
_SCORES = r"""
SELECT c.run_id, c.label, c.answered, c.failed, count(a.id) FILTER (WHERE e.reference <> ''),
    count(a.id) FILTER (WHERE e.reference <> ''
        AND lower(btrim(regexp_replace(a.text, '\s+', ' ', 'g')))
            = lower(btrim(regexp_replace(e.reference, '\s+', ' ', 'g')))),
    avg(j.score)
FROM datasets_column c
LEFT JOIN datasets_answer a ON a.column_id = c.id AND a.sample = 0 AND a.edit_of_id IS NULL AND a.error = ''
LEFT JOIN datasets_example e ON e.id = a.example_id
LEFT JOIN LATERAL (
    SELECT score FROM datasets_judgement WHERE answer_id = a.id ORDER BY judge_id DESC LIMIT 1
) j ON true
WHERE c.run_id = ANY(%s) GROUP BY c.id ORDER BY c.position
"""


@dataclass(frozen=True, slots=True)
class Score:
    """One model's."""

    model: str
    answered: int
    failed: int
    references: int
    """Of the answered examples, those with an expected answer."""
    exact: int
    """Answers that are the expected one, whatever their case and spacing."""
    judged: float | None
    """The mean of the judge's scores, 1 to 5; None before one scored."""


@dataclass(frozen=True, slots=True)
class Result:
    evaluation: Evaluation
    scores: list[Score]
    """The base's and the tuned model's."""


def evaluate(
    *,
    deployment: Deployment,
    dataset: Dataset | None = None,
    split: Split | None = None,
    part: str = PART,
    created_by: User | None = None,
) -> Evaluation:
    """Have base and tuned model answer the job's own test examples, or those of another dataset or split.

    Without a split, the whole version: the one that the job learned from, or the dataset's latest. Raises
    `DomainError`, and `Conflict` unless the deployment is served.
    """
    base, tuned = deployment.checkpoint.job.base, deployment.model
    if deployment.status != Deployment.Status.READY or tuned is None:
        raise Conflict(f"{deployment.name} is {deployment.status}: only a model that is served can be evaluated.")
    if base is None:
        raise DomainError("Its base model was deleted: there is nothing to compare it with.")
    version, split = _examples(deployment, dataset, split)
    with transaction.atomic():
        run = runs.start_run(
            dataset=version.dataset,
            version=version,
            models=[base, tuned],
            project=deployment.project,
            parameters=PARAMETERS,
            split=split,
            part=part if split else "",
            name=f"{deployment.name[:NAME_CHARACTERS]} against its base",
            created_by=created_by,
        )
        evaluation = Evaluation.objects.create(deployment=deployment, run=run)
    evaluation.refresh_from_db()
    return evaluation


def judge(*, evaluation: Evaluation, model: Model, rubric: str, created_by: User | None = None) -> Judge:
    """Have a model score the answers, once there are some. Raises `DomainError`."""
    return judging.start_judge(run=evaluation.run, model=model, rubric=rubric, created_by=created_by)


def results(evaluations: Sequence[Evaluation]) -> list[Result]:
    """What came out so far, in one query."""
    scores: dict[int, list[Score]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_SCORES, [[each.run_id for each in evaluations]])
        for run_id, *row in cursor.fetchall():
            scores[run_id].append(_score(*row))
    return [Result(each, scores[each.run_id]) for each in evaluations]


def _score(model: str, answered: int, failed: int, references: int, exact: int, judged: Decimal | None) -> Score:
    return Score(model, answered, failed, references, exact, None if judged is None else round(float(judged), 2))


def _examples(deployment: Deployment, dataset: Dataset | None, split: Split | None) -> tuple[Version, Split | None]:
    """What is asked. Raises `DomainError`."""
    if split is not None:
        _check_dataset(deployment, split.version.dataset, dataset)
        return split.version, split
    if dataset is not None:
        _check_dataset(deployment, dataset)
        version = dataset.versions.order_by("-number").first()
        if version is None:
            raise DomainError(f"{dataset} has no examples yet: import some.", param="dataset")
        return version, None
    return _of_the_job(deployment)


def _of_the_job(deployment: Deployment) -> tuple[Version, Split | None]:
    export = deployment.checkpoint.job.export
    if export is None:
        message = "The job learned from a file that is no export: say which dataset to evaluate on."
        raise DomainError(message, param="dataset")
    version = Version.objects.filter(dataset=export.dataset_id, number=export.spec["version"]).first()
    split = Split.objects.filter(uid=export.spec.get("split") or "", version=version).first()
    if version is None or (export.spec.get("split") and split is None):
        message = "The version or split that the job learned from was deleted: say which dataset to evaluate on."
        raise DomainError(message, param="dataset")
    return version, split


def _check_dataset(deployment: Deployment, dataset: Dataset, said: Dataset | None = None) -> None:
    if dataset.project_id != deployment.project_id or said not in (None, dataset):
        raise DomainError("There is no such dataset, or split of it, in the project.", param="dataset")
