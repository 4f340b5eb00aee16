"""Rows that are good and of which nothing is learned, and keys that are not used: told, listed, counted."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.core import leases
from apps.models.models import Model
from apps.training.files import validation
from apps.training.spec import LEFT_OUT
from tests.training.cast import example, make_file, make_job
from tests.training.validating import base, folder, keeper, rows_of, told, uncounted, work

__all__ = ["base", "folder", "keeper", "uncounted"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_left_out_is_told_before_a_device_is_taken(
    project: Project, base: Model, keeper: leases.Keeper, api: APIClient, stranger: APIClient
) -> None:
    """With the lines of the user's own file, in which blank lines count."""
    long = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Yes."}]}
    rows = [line for number in range(6) for line in (long, b"", example(number))]
    job = make_job(project, base, make_file(project, rows), options={"max_length": 256, "validation_share": 0.3})
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"
    events = job.events.filter(level="warn", data__has_key="left_out").order_by("pk")
    parts = [event.data["left_out"] for event in events]
    assert [part["file"] for part in parts] == ["training_file", "validation_file"]
    assert sorted(line["line"] for part in parts for line in part["lines"]) == [1, 4, 7, 10, 13, 16]
    assert [part["of"] for part in parts] == [8, 4]
    count = parts[0]["count"]
    assert events[0].message.startswith(
        f"{count} of 8 training examples are left out: its first 256 tokens have no answer: raise max_length."
    )
    assert f"The longest needs {parts[0]['longest']} tokens. Lines " in events[0].message
    kept = [json.loads(line) for line in (job.folder / LEFT_OUT).read_bytes().splitlines()]
    assert sorted(line["line"] for line in kept) == [1, 4, 7, 10, 13, 16]
    assert {line["file"] for line in kept} == {"training", "validation"}
    shown = api.get(f"/v1/fine_tuning/jobs/{job.uid}").json()
    assert shown["left_out"] == 6
    body = api.get(f"/v1/files/{shown['left_out_file_id']}/content")
    listed = [json.loads(line) for line in b"".join(body).splitlines()]
    assert listed == [
        {"file": job.training_file_uid, "line": line["line"], "part": line["file"], "reason": line["reason"]}
        for line in kept
    ]
    assert stranger.get(f"/v1/files/{shown['left_out_file_id']}/content").status_code == 404


def test_it_rejects_files_of_which_nothing_can_be_learned(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, options={"max_length": 16})
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_training_file", "training_file")
    assert "12 of 12 training examples are left out" in job.message
    assert "The longest needs 4" in job.message
    assert [error["line"] for error in job.errors or []] == list(range(1, 13))
    assert (job.left_out, job.bad_rows, job.errors_file) == (12, 0, None)
    assert job.left_out_file


def test_more_than_a_hundred_rows_are_in_the_list(project: Project, base: Model, keeper: leases.Keeper) -> None:
    options = {"max_length": 16, "held_out_share": 0}
    job = make_job(project, base, make_file(project, map(example, range(150))), options=options)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.left_out, len(job.errors or [])) == ("failed", 150, 100)
    assert job.left_out_file
    assert job.message.endswith(f"The first 100 are listed here, all 150 in {job.left_out_file.uid}.")
    with job.left_out_file.content.open("rb") as content:
        assert [json.loads(line)["line"] for line in content] == list(range(1, 151))


def test_rows_of_the_validation_file_are_named_by_that(project: Project, base: Model, keeper: leases.Keeper) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Yes."}]}
    valid = make_file(project, [example(100), long])
    job = make_job(project, base, validation_file=valid, options={"max_length": 256})
    work(keeper)
    job.refresh_from_db()
    assert job.left_out_file
    with job.left_out_file.content.open("rb") as content:
        (line,) = map(json.loads, content)
    assert (line["file"], line["line"], line["part"]) == (valid.uid, 2, "validation")


def test_keys_that_are_not_used_are_told(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    rows: list[Any] = [example(number) | {"source": "web"} for number in range(12)]
    rows[3]["messages"][0]["score"] = 4
    job = make_job(project, base, make_file(project, rows))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, rows_of(job, "train.jsonl")) == ("queued", [example(number) for number in range(12)])
    event = job.events.filter(level="warn").latest("-pk")
    assert event.message == (
        "Keys of the file that are not used: 'source' (12 rows), 'messages[].score' (1 row). "
        "Nothing of the conversations is lost with them."
    )
    assert event.data == {"unused": {"source": 12, "messages[].score": 1}}


def test_plain_text_for_a_model_that_chats_is_said_to_be(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    texts = [{"prompt": f"{number} is", "completion": " a number."} for number in range(12)]
    job = make_job(project, base, make_file(project, texts))
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"
    assert validation.PLAIN_TEXT in told(job)
