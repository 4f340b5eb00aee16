import pytest
from django.db import transaction

from apps.accounts.models import Project
from apps.core.bell import Bell
from apps.events.models import Event
from apps.events.services import announce

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_works() -> None:
    project = Project.objects.create(name="ours")
    event = announce(type="batch.completed", project=project, data={"id": "batch_1"})
    event.refresh_from_db()
    assert event.uid.startswith("evt_")
    assert (event.attempts, event.delivered_at, event.project) == (0, None, project)
    assert event.next_attempt_at == event.created_at  # due at once


def test_it_rings_for_a_control_worker_after_the_commit() -> None:
    ear = Bell("control")
    ear.wait(0)
    with transaction.atomic():
        announce(type="batch.completed", project=None, data={"id": "batch_1"})
        assert not ear.wait(0.2)
    assert ear.wait(2)
    ear.close()


def test_it_takes_part_in_the_transaction() -> None:
    with transaction.atomic():
        announce(type="batch.completed", project=None, data={"id": "batch_1"})
        transaction.set_rollback(True)
    assert not Event.objects.exists()


def test_it_rejects_a_type_that_nobody_could_receive() -> None:
    with pytest.raises(ValueError, match=r"batch\.completed"):
        announce(type="batch.complete", project=None, data={"id": "batch_1"})
