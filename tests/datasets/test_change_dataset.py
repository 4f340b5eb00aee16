"""Datasets are made, renamed, made smaller and deleted."""

import pytest

from apps.accounts.models import Project
from apps.core.errors import Conflict, DomainError
from apps.datasets import services
from apps.datasets.models import Answer, Change, Dataset, Example, Judge, Judgement, Preference, Rating, Review, Star
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.files import jsonl, upload

pytestmark = pytest.mark.django_db


def test_it_works(project: Project) -> None:
    dataset = services.create_dataset(project=project, name=" capitals ", description="Cities", overlap=2)
    assert (dataset.name, dataset.description, dataset.overlap, dataset.star_policy) == (
        "capitals",
        "Cities",
        2,
        "shared",
    )
    services.update_dataset(dataset=dataset, name="towns", star_policy="reviewer")
    assert list(Dataset.objects.values_list("name", "star_policy")) == [("towns", "reviewer")]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"description": "a\0"}, "description"),
        ({"description": "\ud800"}, "description"),
        ({"star_policy": "many"}, "star_policy"),
        ({"overlap": 0}, "overlap"),
        ({"overlap": 21}, "overlap"),
    ],
)
def test_it_rejects(project: Project, changes: dict[str, object], param: str) -> None:
    dataset = services.create_dataset(project=project, name="capitals")
    with pytest.raises(DomainError) as caught:
        services.update_dataset(dataset=dataset, **changes)
    assert caught.value.param == param
    assert Dataset.objects.get().name == "capitals"


def test_it_rejects_a_name_twice(project: Project) -> None:
    services.create_dataset(project=project, name="capitals")
    with pytest.raises(Conflict, match="has a dataset 'capitals' already"):
        services.create_dataset(project=project, name="capitals")


def test_examples_are_removed_in_a_new_version(project: Project) -> None:
    version = make_version(project)
    made = services.remove_examples(dataset=version.dataset, numbers=[2, 99])
    assert (made.number, made.examples, made.note) == (2, 2, "2 examples removed")
    assert list(Example.objects.of_version(made).values_list("number", flat=True)) == [1, 3]
    assert Example.objects.of_version(version).count() == 3
    with pytest.raises(DomainError, match="None of these examples"):
        services.remove_examples(dataset=version.dataset, numbers=[2])


def test_nothing_is_removed_while_an_import_goes_on(project: Project) -> None:
    version = make_version(project)
    job = services.start_import(
        dataset=version.dataset, file=upload(project, jsonl([{"prompt": "a", "completion": "b"}]))
    )
    with pytest.raises(Conflict, match="An import into this dataset goes on"):
        services.remove_examples(dataset=version.dataset, numbers=[2])
    with pytest.raises(Conflict, match="An import of this dataset goes on"):
        services.delete_dataset(dataset=version.dataset)
    job.end(job.Status.CANCELLED)
    assert services.remove_examples(dataset=version.dataset, numbers=[2]).number == 2


def test_a_dataset_is_deleted_with_all_that_hangs_on_it(project: Project) -> None:
    version, mia = make_version(project), make_reviewer(project)
    matrix = make_run(version, {"small": ["a", "b", "c"], "large": ["a", "B", None]})
    other = make_run(make_version(project, name="other"), {"small": ["a", "b", "c"]})
    left, right = Answer.objects.filter(column__run=matrix, example__number=2).order_by("pk")
    edit = Answer.objects.create(column=left.column, example=left.example, text="z", edit_of=left, author=mia)
    Star.objects.create(example=left.example, answer=edit, reviewer=mia, shared=True)
    Rating.objects.create(answer=left, reviewer=mia, value=4)
    Preference.objects.create(example=left.example, left=left, right=right, reviewer=mia, verdict="left")
    Review.objects.create(example=left.example, reviewer=mia)
    Change.objects.create(dataset=version.dataset, example=left.example, reviewer=mia, kind="star", target={})
    judge = Judge.objects.create(project=project, run=matrix, model_name="judge", rubric="Is it right?")
    Judgement.objects.create(judge=judge, answer=left, score=3)
    services.make_split(version=version, name="s")
    services.delete_dataset(dataset=version.dataset)
    assert list(Dataset.objects.values_list("name", flat=True)) == ["other"]
    assert Answer.objects.filter(column__run=other).count() == Answer.objects.count() == 3
    assert Example.objects.count() == 3
