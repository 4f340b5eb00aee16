import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from apps.core.bell import Bell, ring

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ear() -> Iterator[Bell]:
    ear = Bell("test")
    assert ear.wait(0)  # it was deaf before: there may be something to do
    yield ear
    ear.close()


def test_it_works(ear: Bell) -> None:
    ring("test")
    assert ear.wait(5)
    assert not ear.wait(0.1)


def test_it_wakes_at_once(ear: Bell) -> None:
    def ring_then() -> None:
        ring("test")
        connection.close()

    timer = threading.Timer(0.3, ring_then)
    timer.start()
    began = time.monotonic()
    assert ear.wait(10)
    assert time.monotonic() - began < 2
    timer.join()


def test_it_rings_with_the_commit_and_not_at_all_after_a_rollback(ear: Bell) -> None:
    with transaction.atomic():
        ring("test")
        assert not ear.wait(0.2)
    assert ear.wait(5)
    with transaction.atomic():
        ring("test")
        transaction.set_rollback(True)
    assert not ear.wait(0.2)


def test_it_does_not_hear_the_bell_next_door(ear: Bell) -> None:
    ring("other")
    assert not ear.wait(0.2)


def test_it_survives_the_loss_of_its_connection(ear: Bell) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert not ear.wait(0.1)
    assert ear.wait(0.1)  # it listens again, and says so
    ring("test")
    assert ear.wait(5)
