from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.events.dispatch import AT_A_TIME, ATTEMPTS, BACK_OFF, INTERRUPTED, KEEP, deliver_due, purge_old
from apps.events.models import Event
from apps.events.services import announce, replay
from apps.events.signals import batch_completed, batch_failed
from tests.events.conftest import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

Connect = Callable[..., Receiver]


def happened(uid: str = "batch_1", kind: str = "batch.completed") -> Event:
    return announce(type=kind, project=None, data={"id": uid})


def make_due(event: Event) -> None:
    Event.objects.filter(pk=event.pk, next_attempt_at__isnull=False).update(next_attempt_at=Now())


def test_it_works(keeper: Keeper, connect: Connect) -> None:
    receiver = connect(batch_completed)
    project = Project.objects.create(name="ours")
    event = announce(type="batch.completed", project=project, data={"id": "batch_1"})
    assert deliver_due(keeper)
    event.refresh_from_db()
    (call,) = receiver.calls
    assert (call["event_id"], call["project_id"], call["data"]) == (event.uid, project.uid, {"id": "batch_1"})
    assert (call["sender"], call["created_at"]) == (Event, event.created_at)
    assert event.delivered_at
    assert (event.attempts, event.next_attempt_at, event.last_error) == (1, None, "")
    assert not deliver_due(keeper)
    assert len(receiver.calls) == 1


def test_it_delivers_in_the_order_in_which_things_happened(keeper: Keeper, connect: Connect) -> None:
    receiver = connect(batch_completed)
    with transaction.atomic():  # one transaction has one time
        for number in range(AT_A_TIME + 3):
            happened(f"batch_{number}")
    assert deliver_due(keeper)
    assert len(receiver.calls) == AT_A_TIME  # a turn is bounded
    assert deliver_due(keeper)
    assert receiver.ids() == [f"batch_{number}" for number in range(AT_A_TIME + 3)]


def test_it_survives_a_receiver_that_raises(keeper: Keeper, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = connect(batch_completed), connect(batch_completed)
    broken.failures = 1
    event, other = happened("batch_1"), happened("batch_2", "batch.failed")
    elsewhere = connect(batch_failed)
    before = timezone.now()
    assert deliver_due(keeper)
    event.refresh_from_db()
    assert event.delivered_at is None
    assert event.next_attempt_at is not None
    assert event.next_attempt_at - before >= BACK_OFF[0] - timedelta(seconds=1)
    assert "conftest.Receiver.receive: " in event.last_error
    assert "the plugin is broken" in event.last_error
    assert event.uid in caplog.text
    assert elsewhere.ids() == [other.data["id"]]  # it blocked no other event
    make_due(event)
    deliver_due(keeper)
    event.refresh_from_db()
    assert (event.attempts, event.last_error) == (2, "")
    assert event.delivered_at
    assert [call["event_id"] for call in sound.calls] == [event.uid, event.uid]  # at least once: both again


def test_it_survives_a_receiver_that_breaks_its_transaction(keeper: Keeper, connect: Connect) -> None:
    def breaks_the_database(**_: object) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1/0")

    batch_completed.connect(breaks_the_database)
    try:
        event = happened()
        deliver_due(keeper)
    finally:
        batch_completed.disconnect(breaks_the_database)
    event.refresh_from_db()
    assert "division by zero" in event.last_error


def test_it_survives_a_receiver_without_a_name(keeper: Keeper) -> None:
    """Django's `send_robust` itself stumbles over one."""
    broken = partial(int, "no number")
    batch_completed.connect(broken)
    try:
        event, other = happened("batch_1"), happened("batch_2", "batch.failed")
        deliver_due(keeper)
    finally:
        batch_completed.disconnect(broken)
    event.refresh_from_db()
    other.refresh_from_db()
    assert (event.attempts, event.delivered_at) == (1, None)
    assert event.last_error != INTERRUPTED
    assert other.delivered_at


def test_it_survives_a_receiver_that_ends_the_process(keeper: Keeper, connect: Connect) -> None:
    """The attempt was counted before, so that what kills workers is not tried for ever."""

    def ends(**_: object) -> None:
        raise SystemExit

    event = happened()
    batch_completed.connect(ends)
    with pytest.raises(SystemExit):
        deliver_due(keeper)
    batch_completed.disconnect(ends)
    event.refresh_from_db()
    assert (event.attempts, event.delivered_at, event.last_error) == (1, None, INTERRUPTED)
    receiver = connect(batch_completed)
    assert not deliver_due(keeper)  # others wait until the attempt has had its time
    make_due(event)
    assert deliver_due(keeper)
    assert receiver.ids() == ["batch_1"]


def test_it_gives_up_after_the_last_attempt(keeper: Keeper, connect: Connect) -> None:
    receiver = connect(batch_completed)
    receiver.failures = ATTEMPTS + 1
    event = happened()
    for _ in range(ATTEMPTS + 1):
        deliver_due(keeper)
        make_due(event)
    event.refresh_from_db()
    assert len(receiver.calls) == event.attempts == ATTEMPTS
    assert (event.delivered_at, event.next_attempt_at) == (None, None)
    assert "the plugin is broken" in event.last_error


def test_it_can_be_replayed(keeper: Keeper, connect: Connect) -> None:
    receiver = connect(batch_completed)
    event = happened()
    deliver_due(keeper)
    replay(event=event)
    deliver_due(keeper)
    assert [call["event_id"] for call in receiver.calls] == [event.uid] * 2


def test_it_leaves_alone_what_another_worker_takes(keeper: Keeper, connect: Connect) -> None:
    receiver = connect(batch_completed)
    happened()
    with transaction.atomic(), ThreadPoolExecutor(1) as another_worker:
        Event.objects.select_for_update().get()
        assert another_worker.submit(deliver_due, keeper).result(10) is False
        another_worker.submit(connections.close_all).result()
    assert not receiver.calls


def test_it_drops_a_type_that_no_longer_exists(keeper: Keeper) -> None:
    event = happened()
    Event.objects.update(type="batch.renamed")
    deliver_due(keeper)
    event.refresh_from_db()
    assert event.delivered_at


def test_it_purges_what_was_delivered_long_ago(keeper: Keeper) -> None:
    old, kept, undelivered = happened("batch_1"), happened("batch_2"), happened("batch_3")
    long_ago = timezone.now() - KEEP - timedelta(minutes=1)
    Event.objects.filter(pk__in=[old.pk, undelivered.pk]).update(created_at=long_ago)
    Event.objects.filter(pk=old.pk).update(delivered_at=long_ago)
    Event.objects.filter(pk=kept.pk).update(delivered_at=timezone.now())
    assert purge_old(keeper)
    assert not purge_old(keeper)
    assert set(Event.objects.all()) == {kept, undelivered}
