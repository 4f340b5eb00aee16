"""Who works on an example now."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection

from apps.accounts.models import Project
from apps.core.errors import Conflict
from apps.datasets.models import Example, Lock
from apps.datasets.reviews import locks
from tests.datasets.cast import make_reviewer, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def example(project: Project) -> Example:
    return make_version(project).dataset.examples.get(number=1)


@pytest.fixture
def mia(project: Project) -> User:
    return make_reviewer(project)


@pytest.fixture
def ben(project: Project) -> User:
    return make_reviewer(project, "ben")


def seconds_left(example: Example) -> float:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM datasets_lock WHERE example_id = %s",
            [example.pk],
        )
        return float(cursor.fetchone()[0])


def expire() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE datasets_lock SET expires_at = clock_timestamp() - interval '1 ms'")


def test_it_works(example: Example, mia: User, ben: User) -> None:
    lock = locks.take(example=example, reviewer=mia)
    assert (lock.example_id, lock.reviewer_id, locks.holder(example=example)) == (example.pk, mia.pk, mia)
    assert 110 < seconds_left(example) <= locks.SECONDS
    with pytest.raises(Conflict, match="mia works on this example") as refused:
        locks.take(example=example, reviewer=ben)
    assert refused.value.code == "locked"
    assert not locks.release(example=example, reviewer=ben)
    assert locks.release(example=example, reviewer=mia)
    assert locks.holder(example=example) is None
    assert locks.take(example=example, reviewer=ben).reviewer_id == ben.pk


def test_taking_it_again_renews_it(example: Example, mia: User) -> None:
    locks.take(example=example, reviewer=mia)
    Lock.objects.update(expires_at=Lock.objects.get().expires_at - timedelta(seconds=100))
    assert seconds_left(example) < 30
    locks.take(example=example, reviewer=mia)
    assert seconds_left(example) > 110


def test_it_expires_and_is_taken_over(example: Example, mia: User, ben: User) -> None:
    locks.take(example=example, reviewer=mia)
    expire()
    assert locks.holder(example=example) is None
    assert not locks.release(example=example, reviewer=mia)
    assert locks.take(example=example, reviewer=ben).reviewer_id == ben.pk
    assert Lock.objects.count() == 1
