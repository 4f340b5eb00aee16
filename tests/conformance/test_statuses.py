"""A batch's way to each of its ends: counts, files, timestamps and usage as OpenAI tells them."""

from typing import Any

import pytest
from openai.types import Batch
from openai.types.chat import ChatCompletion

from tests.conformance.lines import CHAT, CHAT_MODEL, URLS, chats, line
from tests.conformance.site import Site

pytestmark = pytest.mark.live
ENDS = ("completed_at", "failed_at", "expired_at", "cancelled_at")
SLOW = "!slow:600"


def counts(batch: Batch) -> tuple[int, int, int]:
    told = batch.request_counts
    assert told is not None
    return told.total, told.completed, told.failed


def check_times(batch: Batch, *passed: str) -> None:
    """Exactly these moments have come, in this order, and the last is the batch's end."""
    moments = [getattr(batch, name) for name in ("created_at", *passed)]
    assert None not in moments
    assert moments == sorted(moments)
    every = {"in_progress_at", "finalizing_at", "cancelling_at", *ENDS}
    assert [name for name in every - set(passed) if getattr(batch, name) is not None] == []
    assert passed[-1] == f"{batch.status}_at"


def check_usage(batch: Batch, lines: list[dict[str, Any]]) -> None:
    """The batch's usage is the sum over its output lines."""
    given = made = 0
    for item in lines:
        usage = item["response"]["body"]["usage"]
        given += usage.get("prompt_tokens") or usage.get("input_tokens") or 0
        made += usage.get("completion_tokens") or usage.get("output_tokens") or 0
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (given, made)
    assert batch.usage.total_tokens == given + made > 0
    assert batch.usage.input_tokens_details.cached_tokens <= given
    assert batch.usage.output_tokens_details.reasoning_tokens <= made


def check_success(item: dict[str, Any]) -> None:
    assert set(item) == {"id", "custom_id", "response", "error"}
    assert item["id"].startswith("batch_req_")
    assert item["error"] is None
    response = item["response"]
    assert set(response) == {"status_code", "request_id", "body"}
    assert response["status_code"] == 200
    assert response["request_id"].startswith("req_")


def check_refused(item: dict[str, Any]) -> None:
    """The model's endpoint said no: a response with its error, and no `error` of ours."""
    assert set(item) == {"id", "custom_id", "response", "error"}
    assert item["error"] is None
    assert item["response"]["status_code"] == 400
    assert item["response"]["request_id"].startswith("req_")
    assert {"message", "type", "param", "code"} <= set(item["response"]["body"]["error"])


def check_unsent(item: dict[str, Any], code: str) -> None:
    """It never ran: an `error` of ours, and no response."""
    assert set(item) == {"id", "custom_id", "response", "error"}
    assert item["response"] is None
    assert set(item["error"]) == {"code", "message"}
    assert item["error"]["code"] == code
    assert item["error"]["message"]


@pytest.mark.parametrize("url", URLS)
def test_it_works(site: Site, url: str) -> None:
    batch = site.run([line(number, f"number {number}", url=url) for number in range(1, 21)], url)
    assert (batch.status, batch.endpoint) == ("completed", url)
    assert counts(batch) == (20, 20, 0)
    assert (batch.errors, batch.error_file_id) == (None, None)
    check_times(batch, "in_progress_at", "finalizing_at", "completed_at")
    lines = site.lines(batch.output_file_id)
    for item in lines:
        check_success(item)
    assert {item["custom_id"] for item in lines} == {f"r{number}" for number in range(1, 21)}
    assert len({item["id"] for item in lines}) == len({item["response"]["request_id"] for item in lines}) == 20
    check_usage(batch, lines)


def test_each_answer_is_its_own_lines(site: Site) -> None:
    batch = site.run(chats(*(f"question {number}" for number in range(1, 301))))
    assert batch.model == CHAT_MODEL
    for item in site.lines(batch.output_file_id):
        answer = ChatCompletion.model_validate(item["response"]["body"])
        assert answer.choices[0].message.content == f"Answer to: question {item['custom_id'].removeprefix('r')}"


def test_some_lines_fail(site: Site) -> None:
    batch = site.run(chats("one", "two !400", "three", "four !400"))
    assert (batch.status, counts(batch)) == ("completed", (4, 2, 2))
    output, errors = site.lines(batch.output_file_id), site.lines(batch.error_file_id)
    assert {item["custom_id"] for item in output} == {"r1", "r3"}
    assert {item["custom_id"] for item in errors} == {"r2", "r4"}
    for item in errors:
        check_refused(item)
    check_usage(batch, output)


def test_all_lines_fail(site: Site) -> None:
    batch = site.run(chats("one !400", "two !400"))
    assert (batch.status, counts(batch)) == ("completed", (2, 0, 2))
    assert batch.output_file_id is None
    assert [item["custom_id"] for item in site.lines(batch.error_file_id)] == ["r1", "r2"]
    assert batch.usage is None
    check_times(batch, "in_progress_at", "finalizing_at", "completed_at")


def test_a_line_that_the_engine_refuses_for_its_shape(site: Site) -> None:
    """No `messages`: that is the engine's to judge, not the validator's."""
    asked = {"custom_id": "r1", "method": "POST", "url": CHAT, "body": {"model": CHAT_MODEL}}
    (item,) = site.lines(site.run([asked]).error_file_id)
    check_refused(item)


def test_the_engines_passing_trouble_is_no_failure(site: Site) -> None:
    batch = site.run(chats("one !500-once", "two !429-once"))
    assert counts(batch) == (2, 2, 0)


def test_the_input_has_errors(site: Site) -> None:
    batch = site.run([*chats("one", "two"), "no JSON"])
    assert (batch.status, counts(batch)) == ("failed", (0, 0, 0))
    assert (batch.output_file_id, batch.error_file_id, batch.usage) == (None, None, None)
    assert batch.errors is not None
    assert batch.errors.object == "list"
    assert [(error.code, error.line) for error in batch.errors.data or []] == [("invalid_json_line", 3)]
    check_times(batch, "failed_at")
    assert site.sql("SELECT count(*) FROM batches_request r JOIN batches_batch b ON b.id = r.batch_id"
                    " WHERE b.uid = %s", batch.id) == [(0,)]  # fmt: skip


def test_it_is_cancelled(site: Site) -> None:
    started = site.start(chats("one", "two !400", *[SLOW] * 3))
    site.wait(started.id, ["in_progress"], done=2)
    cancelling = site.client().batches.cancel(started.id)
    assert cancelling.status == "cancelling"
    assert cancelling.cancelling_at is not None
    batch = site.wait(started.id)
    assert (batch.status, counts(batch)) == ("cancelled", (5, 1, 4))
    check_times(batch, "in_progress_at", "cancelling_at", "cancelled_at")
    output = site.lines(batch.output_file_id)
    assert [item["custom_id"] for item in output] == ["r1"]
    check_usage(batch, output)
    refused, *unsent = site.lines(batch.error_file_id)
    check_refused(refused)
    assert [item["custom_id"] for item in unsent] == ["r3", "r4", "r5"]
    for item in unsent:
        check_unsent(item, "batch_cancelled")
    assert site.client().batches.cancel(batch.id) == batch


def test_it_is_cancelled_before_its_file_is_read(site: Site) -> None:
    with site.work_held_up():
        started = site.start(chats("one", "two"))
        assert started.status == "validating"
        site.client().batches.cancel(started.id)
    batch = site.wait(started.id)
    assert (batch.status, counts(batch)) == ("cancelled", (0, 0, 0))
    assert (batch.output_file_id, batch.error_file_id, batch.usage) == (None, None, None)
    check_times(batch, "cancelling_at", "cancelled_at")


def test_its_window_passes(site: Site) -> None:
    started = site.start(chats("one", "two", *[SLOW] * 3))
    site.wait(started.id, ["in_progress"], done=2)
    site.expire(started.id)
    batch = site.wait(started.id)
    assert (batch.status, counts(batch)) == ("expired", (5, 2, 3))
    check_times(batch, "in_progress_at", "finalizing_at", "expired_at")
    output, unsent = site.lines(batch.output_file_id), site.lines(batch.error_file_id)
    assert [item["custom_id"] for item in output] == ["r1", "r2"]
    assert [item["custom_id"] for item in unsent] == ["r3", "r4", "r5"]
    check_usage(batch, output)
    for item in unsent:
        check_unsent(item, "batch_expired")
        assert item["error"]["message"] == ("This request could not be executed before the completion window expired.")


def test_a_batch_of_many_shards_is_whole(site: Site) -> None:
    batch = site.run(chats(*("word " * (number % 9 + 1) for number in range(5_000))))
    assert counts(batch) == (5_000, 5_000, 0)
    lines = site.lines(batch.output_file_id)
    assert [item["custom_id"] for item in lines] == [f"r{number}" for number in range(1, 5_001)]
    check_usage(batch, lines)
