"""What this server offers beside OpenAI's routes, by the stock client's plain requests."""

import json
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.conformance.lines import CHAT, chats, parsed
from tests.conformance.site import Site

pytestmark = pytest.mark.live
SLOW = "!slow:600"


def post(site: Site, batch_id: str, verb: str) -> Batch:
    return site.client().post(f"/batches/{batch_id}/{verb}", cast_to=Batch)


def output(site: Site, batch_id: str, query: str = "") -> list[dict[str, Any]]:
    """The lines known so far."""
    return parsed(site.http().get(f"/batches/{batch_id}/output{query}").content)


def extra(batch: Batch, name: str) -> Any:
    """A key that the SDK's type does not know."""
    return (batch.model_extra or {})[name]


def test_it_works_to_retry_failed_lines(site: Site) -> None:
    batch = site.run(chats("one", "two !400", "three", "four !400"))
    retry = post(site, batch.id, "retry")
    assert retry.id != batch.id
    assert extra(retry, "retry_of") == batch.id
    ended = site.wait(retry.id)
    assert ended.request_counts is not None
    assert (ended.request_counts.total, ended.request_counts.failed) == (2, 2)
    assert [item["custom_id"] for item in site.lines(ended.error_file_id)] == ["r2", "r4"]
    assert site.client().batches.retrieve(batch.id) == batch


def test_it_works_to_retry_what_was_cancelled(site: Site) -> None:
    started = site.start(chats("one", SLOW))
    site.wait(started.id, ["in_progress"], done=1)
    site.client().batches.cancel(started.id)
    retry = post(site, site.wait(started.id).id, "retry")
    assert retry.status == "in_progress"
    site.client().batches.cancel(retry.id)
    ended = site.wait(retry.id)
    assert [item["custom_id"] for item in site.lines(ended.error_file_id)] == ["r2"]


def test_it_rejects_a_retry_of_nothing(site: Site) -> None:
    clean, invalid, running = site.run(chats("one")), site.run(["no JSON"]), site.start(chats(SLOW))
    for batch in (clean, invalid, running):
        with pytest.raises(openai.ConflictError):
            post(site, batch.id, "retry")
    site.client().batches.cancel(running.id)
    site.wait(running.id)


def test_it_works_to_pause_and_resume(site: Site) -> None:
    started = site.start(chats(*["!slow:0.3"] * 400))
    site.wait(started.id, ["in_progress"], done=1)
    paused = post(site, started.id, "pause")
    assert paused.status == "in_progress"
    assert extra(paused, "paused_at") is not None
    with pytest.raises(openai.ConflictError):
        post(site, started.id, "pause")
    resumed = post(site, started.id, "resume")
    assert extra(resumed, "paused_at") is None
    with pytest.raises(openai.ConflictError):
        post(site, started.id, "resume")
    ended = site.wait(started.id)
    assert ended.request_counts is not None
    assert ended.request_counts.completed == 400


def test_a_paused_batch_is_not_run(site: Site) -> None:
    """A batch that came later, and is done, shows that the paused one had its chance."""
    with site.work_held_up():
        paused = site.start(chats("one"))
        post(site, paused.id, "pause")
    site.run(chats("two"))
    waiting = site.wait(paused.id, ["in_progress"])
    assert waiting.request_counts is not None
    assert waiting.request_counts.completed == 0
    post(site, paused.id, "resume")
    assert site.wait(paused.id).status == "completed"


def test_the_output_can_be_read_while_the_batch_runs(site: Site) -> None:
    started = site.start(chats("one", "two !400", SLOW))
    site.wait(started.id, ["in_progress"], done=2)
    assert [item["custom_id"] for item in output(site, started.id)] == ["r1"]
    assert [item["custom_id"] for item in output(site, started.id, "?failed=true")] == ["r2"]
    site.client().batches.cancel(started.id)
    ended = site.wait(started.id)
    assert output(site, ended.id) == site.lines(ended.output_file_id)
    assert output(site, ended.id, "?failed=true") == site.lines(ended.error_file_id)


def test_priority_is_kept_and_told(site: Site) -> None:
    file = site.upload(chats("one"))
    batch = site.client().batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", extra_body={"priority": 7}
    )
    assert extra(batch, "priority") == 7
    assert extra(site.wait(batch.id), "priority") == 7


def test_windows_of_other_lengths(site: Site) -> None:
    file = site.upload(chats("one"))
    wanted: Any = "7d"
    batch = site.client().batches.create(input_file_id=file.id, endpoint=CHAT, completion_window=wanted)
    assert batch.expires_at is not None
    assert abs(batch.expires_at - batch.created_at - 7 * 86_400) <= 1
    site.wait(batch.id)


def test_progress_is_streamed_as_events(site: Site) -> None:
    started = site.start(chats(*["!slow:0.5"] * 100))
    events = []
    with site.http().stream("GET", f"/batches/{started.id}/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        name = ""
        for text in response.iter_lines():
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            elif text.startswith("data: "):
                events.append((name, json.loads(text.removeprefix("data: "))))
    names = [name for name, _ in events]
    assert names == ["progress"] * (len(events) - 1) + ["done"]
    done = [data["completed"] for _, data in events]
    assert done == sorted(done)
    last = events[-1][1]
    assert (last["id"], last["status"], last["total"], last["completed"]) == (started.id, "completed", 100, 100)


def test_the_events_of_an_ended_batch_end_at_once(site: Site) -> None:
    batch = site.run(chats("one"))
    with site.http().stream("GET", f"/batches/{batch.id}/events") as response:
        names = [text for text in response.iter_lines() if text.startswith("event: ")]
    assert names == ["event: progress", "event: done"]
