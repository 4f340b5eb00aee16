"""Base against tuned through the workbench, and where the model comes from."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import Project
from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Answer, Example, Export, Judgement, Run
from apps.models.models import Model
from apps.training.deployments import evaluation
from apps.training.deployments.evaluation import evaluate, results
from apps.training.lineage import lineage
from apps.training.models import Checkpoint, Deployment, TrainingJob
from tests.datasets.cast import make_version
from tests.datasets.exports import exported, make_split, starred_run
from tests.training.cast import make_job
from tests.training.deploying import ended, make_base, make_checkpoint

pytestmark = pytest.mark.django_db(transaction=True)

PARTS = ["train", "test", "train"]


@pytest.fixture
def base(tmp_path: Path, settings: Any) -> Model:
    settings.TRAINING_DIR, settings.MODELS_DIR = tmp_path / "training", tmp_path / "models"
    return make_base(tmp_path / "base")


@pytest.fixture
def export(project: Project) -> Export:
    """Of the part that is learned."""
    run = starred_run(project)
    return exported(run, "chat", split=make_split(run, PARTS), part="train")


def served(checkpoint: Checkpoint) -> Deployment:
    model = Model.objects.create(
        name="tuned", path="/nowhere", base=checkpoint.job.base, project=checkpoint.job.project, owned_by="us"
    )
    return Deployment.objects.create(
        project=checkpoint.job.project, checkpoint=checkpoint, name="tuned", model=model, status="ready",
        parity={"passed": True, "sentence": "2 of 8 prompts are answered differently than by the base model."},
    )  # fmt: skip


def learned(project: Project, base: Model, export: Export) -> Checkpoint:
    assert export.file
    return make_checkpoint(project, base, job=ended(make_job(project, base, export.file)))


def test_it_works(project: Project, base: Model, export: Export) -> None:
    """On the test part of the split that the job learned from."""
    deployment = served(learned(project, base, export))
    made = evaluate(deployment=deployment)
    run = made.run
    assert [column.label for column in run.columns.order_by("position")] == ["base", "tuned"]
    assert all(run.columns.values_list("due", flat=True))
    assert (run.dataset, run.part, run.items_total) == (export.dataset, "test", 1)
    assert run.split
    assert run.split.name == "thirds"
    assert run.parameters == {"temperature": 0, "seed": 0}
    assert list(deployment.evaluations.all()) == [made]


def test_it_counts_who_is_right(project: Project, base: Model, export: Export) -> None:
    made = evaluate(deployment=served(learned(project, base, export)), part="train")
    Example.objects.update(reference="Paris")
    for column, text in zip(made.run.columns.order_by("position"), ("I do not know", " paris\n"), strict=True):
        for item in made.run.items.all():
            Answer.objects.create(column=column, example=item.example, text=text)
        column.__class__.objects.filter(pk=column.pk).update(answered=2)
    judge = evaluation.judge(evaluation=made, model=base, rubric="Is it right?")
    for answer, score in zip(Answer.objects.filter(column__run=made.run).order_by("pk"), (1, 2, 5, 5), strict=True):
        Judgement.objects.create(judge=judge, answer=answer, score=score)
    with CaptureQueriesContext(connection) as queries:
        first, second = results([made])[0].scores
    assert len(queries) == 1
    assert (first.model, first.answered, first.references, first.exact, first.judged) == ("base", 2, 2, 0, 1.5)
    assert (second.model, second.answered, second.references, second.exact, second.judged) == ("tuned", 2, 2, 2, 5.0)


def test_before_anybody_answered_there_are_no_scores(project: Project, base: Model, export: Export) -> None:
    made = evaluate(deployment=served(learned(project, base, export)))
    assert [(score.answered, score.exact, score.judged) for score in results([made])[0].scores] == [(0, 0, None)] * 2
    with pytest.raises(DomainError, match="There is no answer to judge yet"):
        evaluation.judge(evaluation=made, model=base, rubric="Is it right?")


def test_without_a_split_it_is_the_whole_version(project: Project, base: Model) -> None:
    whole = exported(starred_run(project), "chat")
    run = evaluate(deployment=served(learned(project, base, whole))).run
    assert (run.split, run.part, run.items_total) == (None, "", 3)


def test_another_dataset_or_split_can_be_chosen(project: Project, base: Model, export: Export) -> None:
    deployment = served(make_checkpoint(project, base))
    other = make_version(project, ("One?", "Two?"), name="other").dataset
    assert evaluate(deployment=deployment, dataset=other).run.items_total == 2
    assert export.run
    split = export.run.version.splits.get()
    assert evaluate(deployment=deployment, split=split, part="train").run.items_total == 2


def test_it_rejects_a_job_that_learned_from_a_bare_file(project: Project, base: Model) -> None:
    with pytest.raises(DomainError, match="a file that is no export: say which dataset to evaluate on"):
        evaluate(deployment=served(make_checkpoint(project, base)))


def test_it_rejects_what_is_gone_or_not_served(project: Project, base: Model, export: Export) -> None:
    deployment = served(learned(project, base, export))
    strange = Project.objects.create(name="strange")
    with pytest.raises(DomainError, match="There is no such dataset"):
        evaluate(deployment=deployment, dataset=make_version(strange).dataset)
    with pytest.raises(DomainError, match="There is no example to ask"):
        evaluate(deployment=deployment, part="validation")
    export.dataset.versions.all()[0].splits.all().delete()
    with pytest.raises(DomainError, match="The version or split that the job learned from was deleted"):
        evaluate(deployment=deployment)
    deployment.advance(Deployment.Status.UNDEPLOYED)
    with pytest.raises(Conflict, match="tuned is undeployed: only a model that is served"):
        evaluate(deployment=deployment)
    assert not Run.objects.filter(name__contains="against").exists()


def steps_of(job: TrainingJob) -> dict[str, str]:
    return {step.title: step.sentence for step in lineage(job)}


def test_the_lineage_goes_back_to_the_stars(project: Project, base: Model, export: Export) -> None:
    checkpoint = learned(project, base, export)
    served(checkpoint)
    job = checkpoint.job
    steps = steps_of(job)
    assert list(steps) == [
        "Model tuned", f"Checkpoint {checkpoint.uid}", f"Fine-tuning job {job.uid}", f"Export {export.uid}",
        "Dataset capitals v1", "3 stars", "Run run", "Base model base",
    ]  # fmt: skip
    assert "2 of 8 prompts are answered differently" in steps["Model tuned"]
    assert "the part train of the split thirds" in steps["Dataset capitals v1"]
    assert steps["3 stars"] == "mia 3 stars."
    assert steps["Run run"] == "Asked: small, large."
    for step in lineage(job):
        assert step.url
        if not step.url.startswith("admin:training"):
            assert reverse(step.url, args=[step.pk])


def test_it_takes_as_many_queries_however_much_there_is(project: Project, base: Model, export: Export) -> None:
    checkpoint = learned(project, base, export)
    served(checkpoint)
    with CaptureQueriesContext(connection) as few:
        lineage(checkpoint.job)
    for number in range(3):
        Deployment.objects.create(project=project, checkpoint=checkpoint, name=f"more-{number}")
        Checkpoint.objects.create(job=checkpoint.job, step=number, path="x", digest="0", bytes=1)
    with CaptureQueriesContext(connection) as more:
        assert len(lineage(checkpoint.job)) == 11
    assert len(more) == len(few) <= 8


def test_a_bare_file_has_a_short_lineage(project: Project, base: Model) -> None:
    job = make_checkpoint(project, base).job
    assert "It came from no export of the workbench." in steps_of(job)[f"File {job.training_file_uid}"]
    TrainingJob.objects.update(base=None, training_file=None)
    steps = steps_of(job)
    assert steps[f"File {job.training_file_uid}"].startswith("It was deleted.")
    assert steps["Base model base"] == "It was deleted."
