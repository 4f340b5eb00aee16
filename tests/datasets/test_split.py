"""Frozen parts of a version, the same for the same seed."""

import random
from collections import defaultdict
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.errors import Conflict, DomainError
from apps.datasets import services
from apps.datasets.models import Split, Version
from tests.datasets.cast import make_version

pytestmark = pytest.mark.django_db

PROMPTS = [f"What is {number} times {number}?" for number in range(200)]


def parts(split: Split) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for part, prompt in split.members.values_list("part", "example__prompt"):
        found[part].add(prompt)
    return found


@pytest.fixture
def version(project: Project) -> Version:
    return make_version(project, PROMPTS)


def test_it_works(version: Version) -> None:
    split = services.make_split(version=version, name="80/10/10")
    assert split.counts == {"train": 160, "validation": 20, "test": 20}
    assert split.shares == {"train": 80, "validation": 10, "test": 10}
    assert split.members.count() == 200


def test_the_seed_decides_and_the_order_of_rows_does_not(project: Project, version: Version) -> None:
    shuffled = random.Random(1).sample(PROMPTS, len(PROMPTS))
    other = make_version(project, shuffled, name="shuffled")
    first = parts(services.make_split(version=version, name="a", seed=7))
    assert parts(services.make_split(version=version, name="b", seed=7)) == first
    assert parts(services.make_split(version=other, name="a", seed=7)) == first
    assert parts(services.make_split(version=version, name="c", seed=8)) != first


def test_exact_duplicates_are_in_one_part(project: Project) -> None:
    prompts = [f"{' ' * copy}Question {number}" for number in range(50) for copy in range(4)]
    split = services.make_split(version=make_version(project, prompts), name="s")
    where: dict[str, set[str]] = defaultdict(set)
    for part, prompt in split.members.values_list("part", "example__prompt"):
        where[prompt.strip()].add(part)
    assert all(len(found) == 1 for found in where.values())
    assert abs(split.counts["train"] - 160) <= 4


def test_examples_of_other_versions_are_in_no_part(version: Version) -> None:
    smaller = services.remove_examples(dataset=version.dataset, numbers=range(1, 101))
    assert sum(services.make_split(version=smaller, name="s").counts.values()) == 100
    assert sum(services.make_split(version=version, name="s").counts.values()) == 200


def test_parts_can_be_empty(version: Version) -> None:
    split = services.make_split(version=version, name="all", shares={"train": 100})
    assert split.counts == {"train": 200, "validation": 0, "test": 0}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shares": {"train": 80, "test": 10}}, "add up to 100"),
        ({"shares": {"train": 110, "test": -10}}, "add up to 100"),
        ({"shares": {"train": 100.0}}, "add up to 100"),
        ({"shares": {"train": 50, "dev": 50}}, "There is no part 'dev'"),
        ({"name": " "}, "1 to 100 printable characters"),
        ({"name": "x" * 101}, "1 to 100 printable characters"),
        ({"seed": -1}, "A seed is a number"),
        ({"seed": 2**64}, "A seed is a number"),
    ],
)
def test_it_rejects(version: Version, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DomainError, match=says):
        services.make_split(version=version, **{"name": "s", **options})
    assert not Split.objects.exists()


def test_it_rejects_a_name_twice(version: Version) -> None:
    services.make_split(version=version, name="s")
    with pytest.raises(Conflict, match="has a split 's' already"):
        services.make_split(version=version, name="s")
