import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches import finalize
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.ledger import Ledger
from apps.batches.models import Batch, File, Result, Shard
from apps.batches.services import cancel_batch
from apps.core import attempts, leases
from apps.events.models import Event
from apps.models.models import Model
from tests.batches.cast import end_line, make_running
from tests.batches.test_ledger import take, write

pytestmark = pytest.mark.django_db(transaction=True)

SEPARATORS = "one\u2028two\u2029three\x85four\x1cfive"

streamed = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()
    attempts.wake("")


def lines_of(file: File | None) -> list[dict[str, Any]]:
    """What the file holds, having seen that its row tells the truth."""
    if file is None:
        return []
    raw = Path(file.content.path).read_bytes()
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (file.bytes, file.sha256)
    return [json.loads(line) for line in raw.splitlines()]


def held() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM core_lease WHERE expires_at > clock_timestamp()")
        count: int = cursor.fetchone()[0]
    return count


def assert_sealed(batch: Batch, status: str, *, done: int, failed: int) -> None:
    """Once, with its files, its counts and its one event."""
    batch.refresh_from_db()
    assert batch.status == status
    output, errors = lines_of(batch.output_file), lines_of(batch.error_file)
    assert (len(output), len(errors)) == (done, failed)
    assert sorted(line["custom_id"] for line in output + errors) == sorted(f"a{n + 1}" for n in range(done + failed))
    shards = Shard.objects.filter(batch=batch)
    assert (sum(s.completed for s in shards), sum(s.failed for s in shards)) == (done, failed)
    assert Event.objects.filter(type=f"batch.{status}", data__id=batch.uid).count() == 1
    assert File.objects.filter(purpose="batch_output").count() == bool(done) + bool(failed)
    assert held() == 0


def test_it_works(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = make_running(project, model, lines=3)
    for line in (1, 2, 3):
        end_line(batch, line, failed=line == 2)
    assert notice_ended(keeper)
    batch.refresh_from_db()
    assert batch.status == "finalizing"
    assert finalize_next(keeper)
    assert_sealed(batch, "completed", done=2, failed=1)
    assert [line["custom_id"] for line in lines_of(batch.output_file)] == ["a1", "a3"]
    assert not notice_ended(keeper)
    assert not finalize_next(keeper)


def test_it_leaves_a_batch_alone_that_still_runs(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = make_running(project, model, lines=2)
    end_line(batch, 1)
    assert not notice_ended(keeper)
    assert not finalize_next(keeper)


def test_a_late_batch_expires_with_an_error_for_every_line_that_never_ran(
    project: Project, model: Model, keeper: leases.Keeper
) -> None:
    batch = make_running(project, model, lines=5)
    end_line(batch, 2)
    Batch.objects.filter(pk=batch.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert notice_ended(keeper)
    assert finalize_next(keeper)
    assert_sealed(batch, "expired", done=1, failed=4)
    assert {line["error"]["code"] for line in lines_of(batch.error_file)} == {"batch_expired"}


def test_a_cancelled_batch_keeps_what_was_done(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = make_running(project, model, lines=5)
    end_line(batch, 1)
    end_line(batch, 2, failed=True)
    assert cancel_batch(batch=batch)
    assert finalize_next(keeper)
    assert_sealed(batch, "cancelled", done=1, failed=4)
    codes = [line["error"] and line["error"]["code"] for line in lines_of(batch.error_file)]
    assert codes == [None, "batch_cancelled", "batch_cancelled", "batch_cancelled"]
    assert not cancel_batch(batch=batch)


def test_late_answers_change_nothing(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = make_running(project, model, lines=4)
    ledger = Ledger()
    shard = take(ledger, model)
    write(ledger, shard, shard.lines[:2])
    cancel_batch(batch=batch)
    assert finalize_next(keeper)
    assert write(ledger, shard) == {}
    ledger.close()
    assert_sealed(batch, "cancelled", done=2, failed=2)


def test_answers_under_a_lease_that_was_taken_too_late_change_nothing(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_running(project, model, lines=4)
    ledger = Ledger()
    shard = take(ledger, model)
    cancel_batch(batch=batch)
    monkeypatch.setattr(finalize, "_stop_workers", lambda cursor, batch_id: None)  # as if it was claimed just after
    assert finalize_next(keeper)
    assert write(ledger, shard) == {shard.id: 0}
    ledger.release([shard])
    ledger.close()
    assert_sealed(batch, "cancelled", done=0, failed=4)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OperationalError("away"), RuntimeError("a bug")])
def test_it_survives_an_end_between_the_files_and_the_seal(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    batch = make_running(project, model, lines=3)
    for line in (1, 2, 3):
        end_line(batch, line)
    notice_ended(keeper)

    def announce(**_: Any) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(finalize, "announce", announce)
        with nullcontext() if isinstance(fault, RuntimeError) else pytest.raises(type(fault)):
            finalize_next(keeper)
    batch.refresh_from_db()
    assert (batch.status, batch.output_file) == ("finalizing", None)
    assert File.objects.filter(purpose="batch_output").count() == 0
    attempts.wake("")
    assert finalize_next(keeper)
    assert_sealed(batch, "completed", done=3, failed=0)


def test_it_is_fenced_when_another_took_over(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_running(project, model, lines=1)
    end_line(batch, 1)
    notice_ended(keeper)
    real = finalize._write

    def lose(batch: Batch, held: leases.Held, *, failed: bool) -> File | None:
        with connection.cursor() as cursor:
            leases.revoke(cursor, [held.key])
        return real(batch, held, failed=failed)

    with monkeypatch.context() as patch:
        patch.setattr(finalize, "_write", lose)
        assert finalize_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "finalizing"
    assert finalize_next(keeper)
    assert_sealed(batch, "completed", done=1, failed=0)


def test_it_does_not_seal_again_what_another_has_just_sealed(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_running(project, model, lines=1)
    end_line(batch, 1)
    notice_ended(keeper)
    assert finalize_next(keeper)
    monkeypatch.setattr("apps.batches.owed._candidates", lambda batches: [batch.pk])  # it looked a moment ago
    assert not finalize_next(keeper)
    assert_sealed(batch, "completed", done=1, failed=0)
    assert Result.objects.count() == 1


@streamed
def test_no_character_of_an_answer_breaks_a_line(
    api: APIClient, project: Project, model: Model, keeper: leases.Keeper
) -> None:
    batch = make_running(project, model, lines=2)
    for line, failed in ((1, False), (2, True)):
        body = json.dumps({"text": SEPARATORS}, ensure_ascii=False).replace(",", ",\r")
        Result.objects.create(
            batch=batch, line=line, failed=failed, status_code=200, custom_id=f"a{SEPARATORS}{line}", body=body
        )
    Shard.objects.filter(batch=batch).update(completed=1, failed=1)
    read = [b"".join(api.get(f"/v1/batches/{batch.uid}/output{query}")) for query in ("", "?failed=true")]
    notice_ended(keeper)
    assert finalize_next(keeper)
    batch.refresh_from_db()
    assert batch.output_file
    assert batch.error_file
    assert [Path(file.content.path).read_bytes() for file in (batch.output_file, batch.error_file)] == read
    for text, number in zip(read, (1, 2), strict=True):
        (told,) = map(json.loads, text.decode().splitlines())
        assert told["custom_id"] == f"a{SEPARATORS}{number}"
        assert told["response"]["body"] == {"text": SEPARATORS}
