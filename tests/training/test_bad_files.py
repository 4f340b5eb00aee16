"""Files that no job can use: every bad row is named, by its line in the user's own file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import delete_file
from apps.core import leases
from apps.events.models import Event
from apps.models.models import Model
from apps.models.services import register_model
from apps.training.files import validation
from apps.training.models import TrainingJob
from apps.training.services import cancel_job
from tests.training.cast import example, make_file, make_job, preference
from tests.training.tiny import DEMO_MODEL
from tests.training.validating import base, folder, keeper, told, uncounted, work

__all__ = ["base", "folder", "keeper", "uncounted"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_it_rejects_bad_lines_with_their_numbers(project: Project, base: Model, keeper: leases.Keeper) -> None:
    rows = [*map(example, range(10)), b"{no", b"", {"messages": []}, preference(1)]
    job = make_job(project, base, make_file(project, rows))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_training_file", "training_file")
    assert [(error["line"], error["code"]) for error in job.errors or []] == [
        (11, "invalid_json"), (13, "empty_messages"), (14, "wrong_method"),
    ]  # fmt: skip
    assert {error["file"] for error in job.errors or []} == {job.training_file_uid}
    assert job.message.startswith("The training file cannot be used. Line 11: It is not valid JSON")
    assert job.message.endswith("3 lines have errors; this is the first.")
    assert told(job)[-1] == job.message
    assert list(job.folder.iterdir()) == []
    assert list(Event.objects.filter(type="fine_tuning.job.failed").values_list("data", flat=True)) == [{"id": job.uid}]


def listed(api: APIClient, uid: str) -> list[dict[str, Any]]:
    answer = api.get(f"/v1/files/{uid}/content")
    assert answer.status_code == 200
    return [json.loads(line) for line in b"".join(answer).splitlines()]


def test_all_bad_rows_are_in_a_file(
    project: Project, base: Model, keeper: leases.Keeper, api: APIClient, stranger: APIClient
) -> None:
    rows = [b"{", example(1), b"", {"messages": []}, b'["\xe2\x80\xa8"]'] * 70
    job = make_job(project, base, make_file(project, rows))
    work(keeper)
    shown = api.get(f"/v1/fine_tuning/jobs/{job.uid}").json()
    assert (shown["bad_rows"], len(shown["file_errors"])) == (210, 100)
    uid = shown["errors_file_id"]
    assert shown["error"]["message"].endswith(
        f"210 lines have errors; this is the first. The first 100 are listed here, all 210 in {uid}."
    )
    found = listed(api, uid)
    assert [error["line"] for error in found] == [line for line in range(1, 351) if line % 5 not in (2, 3)]
    assert found[:100] == shown["file_errors"]
    assert {error["code"] for error in found} == {"invalid_json", "empty_messages", "not_an_object"}
    assert stranger.get(f"/v1/files/{uid}/content").status_code == 404


def test_what_is_wrong_with_both_files_is_listed_at_once(
    project: Project, base: Model, keeper: leases.Keeper, api: APIClient
) -> None:
    rows = [*map(example, range(12)), b"{"]
    job = make_job(project, base, make_file(project, rows), validation_file=make_file(project, [b"[]", example(1)]))
    work(keeper)
    job.refresh_from_db()
    assert (job.error_code, job.bad_rows) == ("invalid_training_file", 2)
    assert "Line 13: It is not valid JSON" in job.message
    assert "The validation file cannot be used. Line 1: It is no JSON object" in job.message
    assert job.errors_file
    found = listed(api, job.errors_file.uid)
    assert found == job.errors
    assert [(error["file"], error["line"]) for error in found] == [
        (job.training_file_uid, 13), (job.validation_file_uid, 1),
    ]  # fmt: skip


def test_a_job_that_is_cancelled_meanwhile_keeps_no_list(
    project: Project, base: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    job = make_job(project, base, make_file(project, [b"{"] * 3))
    refuse = validation._refuse

    def refuse_too_late(*arguments: Any) -> None:
        cancel_job(job=job)
        refuse(*arguments)

    monkeypatch.setattr(validation, "_refuse", refuse_too_late)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.errors_file) == ("cancelled", None)
    kept = [path.name for path in (settings.FILES_DIR / project.uid).iterdir()]
    assert kept == [job.training_file_uid]
    assert File.objects.count() == 1


def test_it_rejects_a_bad_validation_file(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, validation_file=make_file(project, [preference(1)]))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_validation_file", "validation_file")
    assert [error["file"] for error in job.errors or []] == [job.validation_file_uid]
    assert not (job.folder / "train.jsonl").exists()


def test_it_rejects_too_few_examples(project: Project, base: Model, keeper: leases.Keeper, settings: Any) -> None:
    file = make_file(project, map(example, range(9)))
    job = make_job(project, base, file)
    work(keeper)
    job.refresh_from_db()
    assert [(error["line"], error["code"]) for error in job.errors or []] == [(None, "too_few_rows")]
    assert job.message == (
        "The training file cannot be used. The file holds 9 examples, and at least 10 are needed: add some."
    )
    settings.TRAINING_MIN_EXAMPLES = 9
    again = make_job(project, base, file)
    work(keeper)
    again.refresh_from_db()
    assert again.status == "queued"


def test_it_rejects_a_model_that_cannot_learn_chats(project: Project, keeper: leases.Keeper, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    job = make_job(project, register_model(name="bare", path=folder))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_model", "model")
    assert job.message.startswith("The model has no chat template")


@pytest.mark.parametrize("bytes_only", [False, True])
def test_it_rejects_a_file_that_was_deleted(
    project: Project, base: Model, keeper: leases.Keeper, bytes_only: bool
) -> None:
    file = make_file(project)
    job = make_job(project, base, file)
    if bytes_only:
        file.content.delete(save=False)
    else:
        delete_file(file=file)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code) == ("failed", "invalid_training_file")
    assert [error["code"] for error in job.errors or []] == ["file_not_found"]


def test_it_rejects_a_model_that_is_gone(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base)
    TrainingJob.objects.update(base=None)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_model", "model")
