"""A batch that cannot be worked on ends as failed after a bounded number of tries, and keeps no other from its turn."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches.client import Outcome
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.ledger import Ledger
from apps.batches.models import Batch, File, Request, Result, Shard
from apps.batches.progress import BatchTopic
from apps.batches.services import cancel_batch, pause_batch, retry_batch
from apps.batches.validate import validate_next
from apps.batches.work import BatchKind
from apps.core import attempts, leases
from apps.core.models import Attempt, Lease
from apps.events.models import Event
from apps.models.models import Model
from tests.batches.cast import CHAT, end_line, make_batch, make_file, make_running
from tests.batches.test_ledger import take, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


def submit(project: Project, **body: Any) -> Batch:
    request = {"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]} | body
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": request}
    return make_batch(project, make_file(project, json.dumps(line).encode()))


def path_of(batch: Batch) -> Path:
    return Path(File.objects.get(uid=batch.input_file_id).content.path)


def put_folder_in_place_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


def work_until_it_ends(keeper: leases.Keeper, duty: Any, batch: Batch) -> int:
    """How often it was tried."""
    for tried in range(1, 20):
        attempts.wake("")
        duty(keeper)
        batch.refresh_from_db()
        if batch.status not in Batch.OPEN:
            return tried
    raise AssertionError("it goes on for ever")


def assert_failed_by_the_server(batch: Batch) -> None:
    assert batch.status == "failed"
    assert [error["code"] for error in batch.errors or []] == ["server_error"]
    message = (batch.errors or [])[0]["message"]
    assert "tried 5 times" in message
    assert not any(hidden in message for hidden in ("Traceback", str(settings.FILES_DIR), 'File "'))
    assert Event.objects.filter(type="batch.failed", data__id=batch.uid).count() == 1
    assert Attempt.objects.count() == Lease.objects.count() == 0


def test_it_works(project: Project, model: Model, api: APIClient, keeper: leases.Keeper) -> None:
    bad, good = submit(project), submit(project)
    put_folder_in_place_of(path_of(bad))
    assert validate_next(keeper)
    assert validate_next(keeper)
    good.refresh_from_db()
    assert good.status == "in_progress"
    assert work_until_it_ends(keeper, validate_next, bad) <= settings.WORK_ATTEMPTS
    assert_failed_by_the_server(bad)
    shown = api.get(f"/v1/batches/{bad.uid}").json()
    assert (shown["status"], shown["errors"]["data"][0]["code"]) == ("failed", "server_error")
    assert "folder where a file should be" in shown["errors"]["data"][0]["message"]


@pytest.mark.parametrize("name", ["a\0b", "\0", "test-model\0"])
def test_a_model_with_nul_is_an_error_of_its_line(
    project: Project, model: Model, keeper: leases.Keeper, name: str
) -> None:
    batch = submit(project, model=name)
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status != "validating"
    assert Attempt.objects.count() == 0


@pytest.mark.parametrize("content", [{"x\0": 1}, {"logit_bias": {"\0": "\0"}}, {"messages": [{"role": "user\0"}]}])
def test_nul_anywhere_else_in_a_line_does_no_harm(
    project: Project, model: Model, keeper: leases.Keeper, content: dict[str, Any]
) -> None:
    batch = submit(project, **content)
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status != "validating"
    assert Attempt.objects.count() == 0


def test_it_rests_between_two_tries(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = submit(project)
    put_folder_in_place_of(path_of(batch))
    assert validate_next(keeper)
    assert not validate_next(keeper)  # on the database's clock: no other worker takes it either


def test_one_that_could_not_be_read_can_be_retried(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = submit(project)
    path = path_of(batch)
    shutil.copy(path, path.with_suffix(".kept"))
    put_folder_in_place_of(path)
    work_until_it_ends(keeper, validate_next, batch)
    path.rmdir()
    path.with_suffix(".kept").rename(path)
    retry = retry_batch(batch=batch)
    assert validate_next(keeper)
    retry.refresh_from_db()
    assert (retry.status, retry.retry_of, retry.total) == ("in_progress", batch, 1)


@pytest.mark.parametrize("cancelled", [False, True])
def test_one_whose_files_cannot_be_written_ends_as_failed(
    project: Project, model: Model, keeper: leases.Keeper, settings: Any, tmp_path: Path, cancelled: bool
) -> None:
    batch = make_running(project, model, lines=2)
    end_line(batch, 1)
    if cancelled:
        cancel_batch(batch=batch)
    else:
        end_line(batch, 2, failed=True)
        notice_ended(keeper)
    folder = settings.FILES_DIR / project.uid
    if folder.exists():
        shutil.rmtree(folder)
    folder.write_text("a file where a folder should be")
    try:
        assert work_until_it_ends(keeper, finalize_next, batch) <= settings.WORK_ATTEMPTS
    finally:
        folder.unlink()
    assert_failed_by_the_server(batch)
    assert Result.objects.filter(batch=batch, failed=False).count() == 1  # what was done can still be read
    assert retry_batch(batch=batch).total == 1


@pytest.mark.parametrize("how", ["validating", "paused while validating", "running", "paused"])
def test_every_open_batch_expires(project: Project, model: Model, keeper: leases.Keeper, how: str) -> None:
    batch = submit(project) if "validating" in how else make_running(project, model, lines=2)
    if "paused" in how:
        assert pause_batch(batch=batch)
    Batch.objects.filter(pk=batch.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert notice_ended(keeper)
    assert finalize_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "expired"
    assert Event.objects.filter(type="batch.expired", data__id=batch.uid).count() == 1


def test_one_that_waits_for_room_on_the_disk_is_not_given_up(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_running(project, model, lines=1)
    end_line(batch, 1)
    notice_ended(keeper)

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("apps.batches.storage.write", full)
        for _ in range(settings.WORK_ATTEMPTS + 2):
            attempts.wake("")
            with pytest.raises(OSError, match="No space"):
                finalize_next(keeper)
    attempts.wake("")
    assert finalize_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "completed"


def die(ledger: Ledger, model: Model) -> Any:
    """Take a shard, and be killed."""
    attempts.wake("")
    shard = ledger.take_shard([model.name])
    attempts._here.clear()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM core_lease")
    return shard


def test_a_shard_that_kills_its_workers_fails_its_lines(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = make_running(project, model, lines=4)
    ledger = Ledger()
    shard = take(ledger, model)
    write(ledger, shard, shard.lines[:1])
    ledger.release([shard])
    for _ in range(settings.WORK_ATTEMPTS):
        assert die(ledger, model)
    assert die(ledger, model) is None
    ledger.close()
    counts = Shard.objects.filter(batch=batch).values_list("completed", "failed", "lines")
    assert list(counts) == [(1, 3, 4)]
    ends = Result.objects.filter(batch=batch, failed=True).values_list("error_code", flat=True)
    assert list(ends) == ["server_error"] * 3
    assert notice_ended(keeper)
    assert finalize_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "completed"


def test_a_shard_of_which_something_was_written_is_tried_on(project: Project, model: Model) -> None:
    make_running(project, model, lines=20)
    ledger = Ledger()
    for _ in range(3 * settings.WORK_ATTEMPTS):
        shard = die(ledger, model)
        assert shard
        Lease.objects.create(key=shard.held.key, owner="us", epoch=shard.held.epoch, expires_at=timezone.now())
        write(ledger, shard, shard.lines[:1])
        Lease.objects.all().delete()
    ledger.close()


def test_a_shard_that_killed_workers_is_taken_alone(project: Project, model: Model) -> None:
    make_running(project, model, lines=1)
    ledger = Ledger()
    die(ledger, model)
    die(ledger, model)
    attempts.wake("")
    assert ledger.take_shard([model.name], alone=False) is None
    shard = ledger.take_shard([model.name], alone=True)
    assert shard
    assert shard.suspect
    ledger.release([shard])
    ledger.close()


def test_a_shard_that_rests_is_no_backlog(project: Project, model: Model) -> None:
    """Or its worker would look for it without end."""
    make_running(project, model, lines=1)
    ledger = Ledger()
    shard = take(ledger, model)
    ledger.release([shard], ValueError("a bug"))
    ledger.close()
    assert BatchKind().backlog() == []
    attempts.wake("")
    assert len(BatchKind().backlog()) == 1


def test_what_the_ledger_cannot_store_is_an_error_of_the_data(project: Project, model: Model) -> None:
    make_running(project, model, lines=1)
    ledger = Ledger()
    shard = take(ledger, model)
    outcome = Outcome(line=shard.lines[0], failed=False, status_code=200, body='"\0"')
    with pytest.raises(Exception, match="0x00"):
        ledger.record([outcome], {shard.id: shard.held})
    ledger.release([shard])
    ledger.close()
    assert Request.objects.count() == 1


def test_its_page_and_its_events_say_why_it_waits(
    project: Project, keeper: leases.Keeper, admin_client: Client
) -> None:
    batch = submit(project)
    put_folder_in_place_of(path_of(batch))
    validate_next(keeper)
    why = "1 of 5 attempts failed, the last one because there is a folder where a file should be."
    snapshot = BatchTopic().snapshot(batch.uid)
    assert snapshot
    assert snapshot["message"].startswith(why)
    page = admin_client.get(reverse("admin:batches_batch_change", args=[batch.pk])).content.decode()
    assert why in page


def test_its_page_says_why_a_shard_waits(project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=2)
    key = f"shard:{batch.shards.get().pk}"
    Attempt.objects.create(key=key, attempts=2, began=True, error="", next_at=timezone.now())
    snapshot = BatchTopic().snapshot(batch.uid)
    assert snapshot
    assert snapshot["message"].startswith(f"1 of 5 attempts failed, the last one because {attempts.DIED}.")
