"""Datasets, runs and reviewers, made straight as rows."""

import json
from collections.abc import Mapping, Sequence

from django.contrib.auth.models import User

from apps.accounts.models import Membership, Project
from apps.conversations.codecs.fields import user
from apps.datasets import items
from apps.datasets.models import Answer, Column, Dataset, Example, Item, Run, Version
from apps.datasets.prompts import fingerprint

PROMPTS = ("Capital of France?", "Capital of Peru?", "Capital of Ghana?")


def make_version(project: Project, prompts: Sequence[str] = PROMPTS, *, name: str = "capitals") -> Version:
    dataset, _ = Dataset.objects.get_or_create(project=project, name=name)
    version = Version.objects.create(dataset=dataset, number=1, examples=len(prompts))
    Example.objects.bulk_create(
        Example(
            dataset=dataset, number=number, added_in=1, messages=json.dumps(messages_of(prompt)), prompt=prompt,
            data=json.dumps({"messages": messages_of(prompt)}), fingerprint=fingerprint(user(prompt)),
        )
        for number, prompt in enumerate(prompts, start=1)
    )  # fmt: skip
    return version


def messages_of(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def make_run(version: Version, answers: Mapping[str, Sequence[str | None]], *, name: str = "run") -> Run:
    """A column for each key; None is an answer that failed. As many answers as the version has examples."""
    dataset = version.dataset
    examples = list(Example.objects.of_version(version).order_by("number"))
    run = Run.objects.create(
        project=dataset.project, dataset=dataset, version=version, name=name, items_total=len(examples)
    )
    Item.objects.bulk_create(Item(run=run, example=example, number=example.number) for example in examples)
    columns = [
        Column.objects.create(run=run, position=position, label=label, model_name=label)
        for position, label in enumerate(answers)
    ]
    for column in columns:
        Answer.objects.bulk_create(
            Answer(column=column, example=example, text=text or "", error="" if text is not None else "Too slow.")
            for example, text in zip(examples, answers[column.label], strict=True)
        )
    items.refresh_answers(run.pk, [example.pk for example in examples])
    items.refresh_columns([column.pk for column in columns])
    return run


def make_reviewer(project: Project, name: str = "mia", role: Membership.Role = Membership.Role.CURATOR) -> User:
    user = User.objects.filter(username=name).first()
    user = user or User.objects.create_user(name, password="analytical-engine", is_staff=True)
    Membership.objects.get_or_create(project=project, user=user, defaults={"role": role})
    return user
