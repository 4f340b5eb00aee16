"""Whatever a worker takes on, one row that cannot be worked on ends as failed after a bounded number of tries.

Every duty and every kind of GPU work stands here: with a poisoned row, or with what bounds it.
"""

from typing import Any

import pytest
from django.conf import settings as django_settings

from apps.core import attempts, duties
from apps.core.models import Attempt, Lease
from apps.models import jobs
from apps.models.models import Install, Model
from tests.core import poisoned_datasets, poisoned_models, poisoned_training
from tests.core.poison import World, on_gpu, world

__all__ = ["world"]

pytestmark = pytest.mark.django_db(transaction=True)

BOUNDED = {
    "events": "attempts of its own, in the event's row: see test_deliver",
    "old events": "one statement",
    "old attempts": "one statement",
    "purge answers": "one statement",
    "forget demands": "one statement",
    "settle cancelled benchmarks": "one statement",
    "notice ended batches": "one statement for each batch, with constants only",
    "purge expired files": "a file's row goes first: see test_spared",
    "purge uploads": "an upload's row ends before its parts are removed, each for itself",
    "purge orphans": "see test_spared",
    "remove unused files": "see test_spared",
    "purge prepared training files": "see test_spared",
    "interactive": "people who wait, for as long as they ask: its rows are forgotten by age",
    "batches": "shards: tests/batches/test_poison.py",
}

POISONED = poisoned_models.CASES | poisoned_datasets.CASES | poisoned_training.CASES


def test_every_duty_and_kind_of_work_is_bounded() -> None:
    """A new one stands in one of the two tables, with a poisoned row or with its reason."""
    assert {*duties._duties, *jobs._kinds} == POISONED.keys() | BOUNDED.keys()
    assert not POISONED.keys() & BOUNDED.keys()


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_row_ends_as_failed(name: str, world: World) -> None:
    case = POISONED[name]
    row: Any = case.make(world)
    tried = 0
    while not case.ended(row):
        tried += 1
        assert tried <= django_settings.WORK_ATTEMPTS, f"it goes on for ever: {vars(row)}"
        attempts.wake("")
        case.work(world)
        row.refresh_from_db()
    assert tried == django_settings.WORK_ATTEMPTS
    message = case.ended(row)
    assert "tried 5 times" in message
    assert not any(hidden in message for hidden in ("Traceback", str(world.folder), str(django_settings.FILES_DIR)))
    assert Lease.objects.count() == 0
    case.work(world)
    row.refresh_from_db()
    assert case.ended(row) == message


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_row_rests_between_two_tries_and_says_why(name: str, world: World) -> None:
    case = POISONED[name]
    row: Any = case.make(world)
    assert case.told(row) == ""
    case.work(world)
    before = list(Attempt.objects.values_list("key", "attempts"))
    assert [tried for _, tried in before] == [1]
    case.work(world)
    assert list(Attempt.objects.values_list("key", "attempts")) == before
    told = case.told(type(row)._default_manager.get(pk=row.pk))
    assert told.startswith("1 of 5 attempts failed, the last one because ")
    assert " It is tried again at " in told


def test_a_first_prompt_that_raises_is_bounded_too(world: World) -> None:
    """Of a row that is sound: its engine, or the server, is not."""
    world.break_code("apps.models.installs.boot.ask")
    Model.objects.filter(pk=world.model.pk).update(ready=False)
    install = Install.objects.create(source="a/b", name="m", model=world.model, status=Install.Status.BOOTING)
    for _ in range(django_settings.WORK_ATTEMPTS):
        assert install.status == Install.Status.BOOTING
        attempts.wake("")
        on_gpu("boot")(world)
        install.refresh_from_db()
    assert install.status == Install.Status.FAILED
    assert "tried 5 times" in install.message
