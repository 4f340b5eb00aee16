import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from apps.accounts.models import Project
from apps.batches import validate
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.ledger import Ledger
from apps.batches.models import Batch, File, Request, Result, Shard
from apps.batches.services import cancel_batch, delete_file, retry_batch
from apps.batches.validate import cut_shards, validate_next
from apps.core import attempts, leases
from apps.core.errors import Conflict
from apps.events.models import Event
from apps.models.models import Model
from apps.models.requests import catalog
from tests.batches.cast import CHAT, make_batch, make_file

FAKE_ENGINE = Path(__file__).parents[1] / "fakes/engine/python"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()
    attempts.wake("")


def content(*names: str, **body: Any) -> bytes:
    request = {"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]} | body
    lines = [{"custom_id": name, "method": "POST", "url": CHAT, "body": request} for name in names]
    return b"\n".join(json.dumps(line).encode() for line in lines)


def submit(project: Project, *names: str, **body: Any) -> Batch:
    return make_batch(project, make_file(project, content(*names, **body)))


def held() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM core_lease WHERE expires_at > clock_timestamp()")
        count: int = cursor.fetchone()[0]
    return count


def test_it_works(project: Project, model: Model, keeper: leases.Keeper) -> None:
    batch = submit(project, "a", "b", "c")
    assert validate_next(keeper)
    assert not validate_next(keeper)
    batch.refresh_from_db()
    assert (batch.status, batch.model, batch.model_name, batch.total) == ("in_progress", model, "test-model", 3)
    assert batch.in_progress_at is not None
    assert list(Request.objects.order_by("line").values_list("line", "custom_id")) == [(1, "a"), (2, "b"), (3, "c")]
    assert list(Shard.objects.values_list("first_line", "last_line", "lines")) == [(1, 3, 3)]
    assert held() == 0


def mixed(project: Project, *bodies: dict[str, Any]) -> Batch:
    lines = [content(f"r{number}", **body) for number, body in enumerate(bodies, 1)]
    return make_batch(project, make_file(project, b"\n".join(lines)))


def test_a_refused_body_is_its_lines_error_and_the_others_run(
    project: Project, model: Model, keeper: leases.Keeper, settings: Any
) -> None:
    settings.BATCH_SHARD_LINES = 2
    batch = mixed(project, {}, {"n": 500}, {}, {"max_tokns": 5}, {"guided_regex": "a"})
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert (batch.status, batch.total, batch.errors) == ("in_progress", 5, None)
    assert list(Shard.objects.order_by("id").values_list("lines", "failed")) == [(2, 1), (2, 1), (1, 0)]
    results = list(Result.objects.order_by("line").values_list("line", "custom_id", "status_code", "attempts", "body"))
    assert [row[:4] for row in results] == [(2, "r2", 400, 0), (4, "r4", 400, 0)]
    assert json.loads(results[1][4] or "") == {
        "error": {
            "message": "Unrecognized request argument supplied: max_tokns. Did you mean max_tokens?",
            "type": "invalid_request_error", "param": "max_tokns", "code": "unknown_parameter",
        }
    }  # fmt: skip
    assert json.loads(Request.objects.get(line=5).body)["structured_outputs"] == {"regex": "a"}
    ledger = Ledger()
    shards = [ledger.take_shard(["test-model"]) for _ in range(3)]
    ledger.close()
    assert [[line.custom_id for line in shard.lines] for shard in shards if shard] == [["r1"], ["r3"], ["r5"]]


def test_a_batch_whose_lines_were_all_refused_completes_with_an_error_file(
    project: Project, model: Model, keeper: leases.Keeper
) -> None:
    batch = mixed(project, {"n": 500}, {"x": 1})
    assert validate_next(keeper)
    assert notice_ended(keeper)
    assert finalize_next(keeper)
    batch.refresh_from_db()
    assert (batch.status, batch.output_file) == ("completed", None)
    assert batch.error_file
    lines = [json.loads(line) for line in batch.error_file.content.open("rb")]
    assert [(line["error"], line["response"]["status_code"]) for line in lines] == [(None, 400)] * 2
    assert all(line["response"]["body"]["error"]["message"] for line in lines)
    with pytest.raises(Conflict, match=r"All lines that failed \(2\) were refused for what they ask"):
        retry_batch(batch=batch)


def test_names_that_are_let_through_are_noted_on_the_batch(
    project: Project, model: Model, keeper: leases.Keeper, settings: Any
) -> None:
    settings.REQUEST_UNKNOWN_FIELDS = "warn"
    batch = mixed(project, {}, {"top_kk": 5})
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "in_progress"
    assert [(note["line"], note["code"]) for note in batch.warnings or []] == [(2, "unknown_parameter")]


def test_it_judges_by_the_tables_of_the_engine(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE_FIELDS", "warp_factor")
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_*")
    catalog.forget()
    assert catalog.rules(CHAT).knows("top_k")
    read = catalog.read_engine(FAKE_ENGINE)
    batch = mixed(project, {"warp_factor": "9"}, {"warp_facto": "9"})
    try:
        assert validate_next(keeper)
        assert catalog.read_engine(FAKE_ENGINE).pk == read.pk
    finally:
        catalog.forget()
    assert "Did you mean warp_factor?" in (Result.objects.get(batch=batch).body or "")


def test_an_interpreter_without_vllm_says_so() -> None:
    with pytest.raises(catalog.NotReadable, match="vLLM is not installed here"):
        catalog.read_engine(Path(sys.executable))


def test_it_rejects_duplicates_and_keeps_none_of_the_lines(
    project: Project, model: Model, keeper: leases.Keeper
) -> None:
    batch = submit(project, "a", "b", "a", "c", "b", "a")
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "failed"
    assert [(error["code"], error["line"]) for error in batch.errors or []] == [
        ("duplicate_custom_id", 3),
        ("duplicate_custom_id", 5),
        ("duplicate_custom_id", 6),
    ]
    assert Request.objects.count() == Shard.objects.count() == 0
    assert list(Event.objects.filter(type="batch.failed").values_list("data", flat=True)) == [{"id": batch.uid}]


def test_it_rejects_a_model_that_is_not_there(project: Project, keeper: leases.Keeper) -> None:
    batch = submit(project, "a", model="nobody")
    validate_next(keeper)
    batch.refresh_from_db()
    assert [(error["code"], error["param"]) for error in batch.errors or []] == [("model_not_found", "body.model")]


@pytest.mark.parametrize("bytes_only", [False, True])
def test_it_rejects_a_file_that_was_deleted(
    project: Project, model: Model, keeper: leases.Keeper, bytes_only: bool
) -> None:
    batch = submit(project, "a")
    file = File.objects.get(uid=batch.input_file_id)
    if bytes_only:
        file.content.delete(save=False)
    else:
        delete_file(file=file)
    validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "failed"
    assert [error["param"] for error in batch.errors or []] == ["input_file_id"]


@pytest.mark.parametrize(
    ("sizes", "lines", "limit", "cut"),
    [
        ([10] * 5, 2, 10**6, [(1, 2), (3, 4), (5, 5)]),
        ([10] * 4, 4, 10**6, [(1, 4)]),
        ([10] * 5, 100, 25, [(1, 2), (3, 4), (5, 5)]),
        ([10, 90, 10, 90], 100, 50, [(1, 1), (2, 3), (4, 4)]),
        ([200], 100, 50, [(1, 1)]),
    ],
)
def test_it_cuts_shards_by_lines_and_by_bytes(
    project: Project, monkeypatch: pytest.MonkeyPatch, settings: Any,
    sizes: list[int], lines: int, limit: int, cut: list[tuple[int, int]],
) -> None:  # fmt: skip
    settings.BATCH_SHARD_LINES = lines
    monkeypatch.setattr(validate, "SHARD_BYTES", limit)
    batch = make_batch(project)
    Request.objects.bulk_create(
        Request(batch=batch, line=line, custom_id=str(line), body="x" * size)
        for line, size in enumerate(sizes, start=1)
    )
    with connection.cursor() as cursor:
        cut_shards(cursor, batch.pk)
    assert list(Shard.objects.order_by("first_line").values_list("first_line", "last_line")) == cut
    assert sum(Shard.objects.values_list("lines", flat=True)) == len(sizes)


def test_it_stops_when_the_batch_is_cancelled_meanwhile(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = submit(project, *(f"r{number}" for number in range(100)))
    monkeypatch.setattr(validate, "COPY_ROWS", 10)
    _meanwhile(monkeypatch, lambda: cancel_batch(batch=batch))
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "cancelling"
    assert Request.objects.count() == Shard.objects.count() == held() == 0


def test_it_is_fenced_when_another_took_over(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = submit(project, "a")

    def take_over() -> None:
        with connection.cursor() as cursor:
            leases.revoke(cursor, [f"batch:{batch.pk}"])

    _meanwhile(monkeypatch, take_over)
    assert validate_next(keeper)
    batch.refresh_from_db()
    assert batch.status == "validating"
    assert Request.objects.count() == 0
    monkeypatch.undo()
    assert validate_next(keeper)
    assert Request.objects.count() == 1


def test_two_workers_validate_a_batch_once(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "owner", lambda: f"elsewhere:{threading.get_ident()}")
    batches = [submit(project, *(f"r{number}" for number in range(200))) for _ in range(6)]
    threads = [threading.Thread(target=_validate_all, args=[keeper]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [Batch.objects.get(pk=batch.pk).status for batch in batches] == ["in_progress"] * 6
    assert Request.objects.count() == 1200
    assert held() == 0


def test_a_batch_that_cannot_be_read_keeps_no_other_from_its_turn(
    project: Project, model: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = submit(project, "a"), submit(project, "b")
    real = validate._open

    def broken(batch: Batch) -> Any:
        if batch.pk == bad.pk:
            raise OSError("the disk is broken")
        return real(batch)

    monkeypatch.setattr(validate, "_open", broken)
    assert validate_next(keeper)
    assert validate_next(keeper)
    good.refresh_from_db()
    assert good.status == "in_progress"
    assert held() == 0
    assert not validate_next(keeper)  # the bad one rests
    attempts.wake("")
    monkeypatch.undo()
    assert validate_next(keeper)


def _validate_all(keeper: leases.Keeper) -> None:
    try:
        deadline = time.monotonic() + 20
        while Batch.objects.filter(status="validating").exists() and time.monotonic() < deadline:
            validate_next(keeper)
    finally:
        connections.close_all()


def _alone(act: Callable[[], object]) -> None:
    act()
    connections.close_all()


def _meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have it happen, on a connection of its own, while the lines are being copied."""
    real = validate._check_wanted
    done = threading.Event()

    def check(*arguments: Any) -> None:
        if not done.is_set():
            done.set()
            thread = threading.Thread(target=_alone, args=[act])
            thread.start()
            thread.join()
        real(*arguments)

    monkeypatch.setattr(validate, "_check_wanted", check)
