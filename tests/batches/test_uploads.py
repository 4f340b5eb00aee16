"""Large files in parts."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches import storage, uploads
from apps.batches.models import File, Upload, UploadPart
from apps.batches.purge import purge_uploads
from apps.events.models import Event
from tests.batches.cast import LINE

pytestmark = pytest.mark.django_db(transaction=True)
CONTENT = LINE * 3
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
KEYS = {"id", "object", "bytes", "created_at", "filename", "purpose", "status", "expires_at", "file"}


@pytest.fixture(autouse=True)
def files_dir(tmp_path: Path, settings: Any) -> Path:
    """A folder of files of this test's own."""
    settings.FILES_DIR = tmp_path / "files"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "files/incoming"
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True)
    location = {"location": str(tmp_path / "files")}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": location}}
    return tmp_path / "files"


def kept(files_dir: Path) -> int:
    return sum(path.is_file() for path in files_dir.rglob("*"))


def create(api: APIClient, **change: Any) -> Any:
    form = {"bytes": len(CONTENT), "filename": "in.jsonl", "mime_type": "text/jsonl", "purpose": "batch", **change}
    return api.post("/v1/uploads", {key: value for key, value in form.items() if value is not None}, format="json")


def begin(api: APIClient, **change: Any) -> str:
    return str(create(api, **change).json()["id"])


def send(api: APIClient, upload: str, content: bytes, headers: Any = None) -> Any:
    return api.post(f"/v1/uploads/{upload}/parts", {"data": SimpleUploadedFile("upload", content)}, headers=headers)


def part(api: APIClient, upload: str, content: bytes) -> str:
    return str(send(api, upload, content).json()["id"])


def complete(api: APIClient, upload: str, parts: Any, **more: Any) -> Any:
    return api.post(f"/v1/uploads/{upload}/complete", {"part_ids": parts, **more}, format="json")


def cancel(api: APIClient, upload: str) -> Any:
    return api.post(f"/v1/uploads/{upload}/cancel")


def refused(response: Any, status: int = 400) -> str:
    assert response.status_code == status, response.content
    error = response.json()["error"]
    return f"{error['param']}: {error['message']}"


def expire(upload: str, ago: timedelta = timedelta(seconds=1)) -> None:
    Upload.objects.filter(uid=upload).update(expires_at=timezone.now() - ago)


def purge() -> None:
    nothing: Any = None
    purge_uploads(nothing)


def test_it_works(api: APIClient, files_dir: Path) -> None:
    made = create(api).json()
    assert set(made) == KEYS
    assert (made["object"], made["status"], made["file"]) == ("upload", "pending", None)
    assert made["expires_at"] == made["created_at"] + 3600
    second, first = (send(api, made["id"], content).json() for content in (CONTENT[50:], CONTENT[:50]))
    assert set(first) == {"id", "object", "created_at", "upload_id"}
    assert (first["object"], first["upload_id"]) == ("upload.part", made["id"])
    done = complete(api, made["id"], [first["id"], second["id"]], md5=MD5).json()
    file = File.objects.get()
    assert done == {**made, "status": "completed", "file": api.get(f"/v1/files/{file.uid}").json()}
    assert file.content.read() == CONTENT
    assert (file.bytes, file.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert file.expires_at
    assert Event.objects.get().data == {"id": file.uid}
    assert kept(files_dir) == 1
    assert not UploadPart.objects.exists()


def test_the_file_may_expire(api: APIClient) -> None:
    upload = begin(api, expires_after={"anchor": "created_at", "seconds": 3600})
    file = complete(api, upload, [part(api, upload, CONTENT)]).json()["file"]
    assert file["expires_at"] == file["created_at"] + 3600


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bytes": None}, "bytes"),
        ({"bytes": 0}, "bytes"),
        ({"bytes": 10**400}, "bytes"),
        ({"bytes": "many"}, "bytes"),
        ({"purpose": "vision"}, "purpose"),
        ({"filename": None}, "filename"),
        ({"filename": "a.zip"}, "end in .jsonl"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after"),
    ],
)
def test_it_rejects_bad_parameters(api: APIClient, change: dict[str, Any], said: str) -> None:
    assert said in refused(create(api, **change))
    assert not Upload.objects.exists()


def test_it_says_at_once_what_is_too_large(api: APIClient, settings: Any) -> None:
    assert "209,715,200 bytes" in refused(create(api, bytes=209_715_201), 413)
    settings.UPLOAD_MAX_BYTES = 1000
    assert "1,000 bytes" in refused(create(api, bytes=1001, purpose="user_data"), 413)


def test_it_rejects_what_the_disk_has_no_room_for(api: APIClient, settings: Any) -> None:
    settings.UPLOAD_MAX_BYTES = 2**62
    refused(create(api, bytes=2**61, purpose="user_data"), 507)


@pytest.mark.parametrize(("name", "shown"), [("a/b\\c.jsonl", "c.jsonl"), ("..", "upload"), ("x" * 300, "x" * 255)])
def test_it_survives_a_strange_name(api: APIClient, name: str, shown: str) -> None:
    assert create(api, filename=name).json()["filename"] == shown


def test_pending_uploads_are_bounded(api: APIClient, settings: Any) -> None:
    settings.UPLOADS_PENDING = 2
    ids = [begin(api) for _ in range(2)]
    assert "cancel some" in refused(create(api))
    cancel(api, ids[0])
    expire(begin(api))
    assert create(api).status_code == 200


def test_a_stranger_sees_none_of_it(api: APIClient, stranger: APIClient) -> None:
    upload = begin(api)
    mine = part(api, upload, CONTENT)
    for response in (send(stranger, upload, b"x"), complete(stranger, upload, [mine]), cancel(stranger, upload)):
        refused(response, 404)
    other = begin(stranger)
    assert "no part" in refused(complete(stranger, other, [mine]))


def test_parts_are_bounded(api: APIClient, files_dir: Path, settings: Any) -> None:
    upload = begin(api)
    assert "empty" in refused(send(api, upload, b""))
    assert "too many" in refused(send(api, upload, CONTENT + b"x"))
    for _ in range(2):  # each may be sent again
        part(api, upload, CONTENT)
    assert "cancel it" in refused(send(api, upload, CONTENT))
    settings.UPLOAD_PART_MAX_BYTES = 10
    assert "10 bytes" in refused(send(api, begin(api), CONTENT), 413)
    assert kept(files_dir) == 2


@pytest.mark.parametrize("given", [None, [], "part_1", [1], ["part_1"], ["\0"], [{}], ["x" * 65]])
def test_it_rejects_parts_that_are_none(api: APIClient, given: Any) -> None:
    upload = begin(api)
    part(api, upload, CONTENT)
    assert refused(complete(api, upload, given)).startswith("part_ids")


def test_it_rejects_other_bytes_than_were_said(api: APIClient, files_dir: Path) -> None:
    upload = begin(api)
    one, two = part(api, upload, CONTENT[:50]), part(api, upload, CONTENT[50:])
    assert "created for" in refused(complete(api, upload, [one]))
    assert "twice" in refused(complete(api, upload, [one, two, one]))
    assert "MD5" in refused(complete(api, upload, [one, two], md5="0" * 32))
    assert kept(files_dir) == 2
    assert not File.objects.exists()
    assert complete(api, upload, [one, two], md5=MD5.upper()).status_code == 200


def test_completing_twice_gives_the_same_file(api: APIClient) -> None:
    upload = begin(api)
    parts = [part(api, upload, CONTENT[:50]), part(api, upload, CONTENT[50:])]
    assert complete(api, upload, parts).json() == complete(api, upload, parts).json()
    assert File.objects.count() == 1
    refused(complete(api, upload, parts[::-1]), 409)
    refused(send(api, upload, b"x"), 409)
    refused(cancel(api, upload), 409)


def test_a_part_sent_again_is_harmless(api: APIClient) -> None:
    upload = begin(api)
    again = [send(api, upload, CONTENT, {"X-Stainless-Retry-Count": count}).json() for count in "01"]
    assert again[0] == again[1]
    assert UploadPart.objects.count() == 1


def test_completed_at_the_same_time_it_is_one_file(
    api: APIClient, project: Project, files_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = begin(api)
    parts = [part(api, uid, CONTENT)]
    waiting, go_on, real, done = threading.Event(), threading.Event(), storage.read, []

    def slow(name: str) -> Iterator[bytes]:
        waiting.set()
        assert go_on.wait(10)
        yield from real(name)

    def run() -> None:
        try:
            done.append(uploads.complete_upload(upload=Upload.objects.get(uid=uid), part_ids=parts).file)
        finally:
            connection.close()

    monkeypatch.setattr(storage, "read", slow)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert waiting.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert done == [File.objects.get()] * 2
    assert kept(files_dir) == 1


def test_it_says_that_another_request_completes_it(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "WAIT_SECONDS", 0.1)
    upload = begin(api)
    parts = [part(api, upload, CONTENT)]
    with uploads._alone(Upload.objects.get()):
        assert "another request" in refused(complete(api, upload, parts), 409)
    monkeypatch.setattr(uploads, "_places", threading.BoundedSemaphore(1))
    with uploads._alone(Upload.objects.get()):
        assert "other uploads" in refused(complete(api, upload, parts), 409)
    assert complete(api, upload, parts).status_code == 200


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_it_survives_an_end_midway(
    api: APIClient, files_dir: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    uid = begin(api)
    parts = [part(api, uid, CONTENT[:50]), part(api, uid, CONTENT[50:])]
    for place in ("storage._rename", "services.announce"):
        with monkeypatch.context() as patch:

            def fail(*_: Any, **__: Any) -> None:
                raise fault

            patch.setattr(f"apps.batches.{place}", fail)
            with pytest.raises(type(fault)):
                uploads.complete_upload(upload=Upload.objects.get(), part_ids=parts)
        assert not File.objects.exists()
        assert kept(files_dir) == 2
    assert complete(api, uid, parts).status_code == 200


def test_a_cancelled_one_is_gone(api: APIClient, files_dir: Path) -> None:
    upload = begin(api)
    mine = part(api, upload, CONTENT)
    assert [cancel(api, upload).json()["status"] for _ in range(2)] == ["cancelled"] * 2
    assert kept(files_dir) == 0
    assert "cancelled" in refused(complete(api, upload, [mine]), 409)
    assert "cancelled" in refused(send(api, upload, b"x"), 409)


def test_one_that_is_over_is_gone(api: APIClient, files_dir: Path) -> None:
    upload = begin(api)
    mine = part(api, upload, CONTENT)
    expire(upload)
    assert "expired" in refused(complete(api, upload, [mine]), 409)
    assert "expired" in refused(send(api, upload, b"x"), 409)
    purge()
    assert kept(files_dir) == 1  # somebody may just be completing it
    expire(upload, uploads.COMPLETING)
    purge()
    assert kept(files_dir) == 0
    assert Upload.objects.get().status == "expired"
    expire(upload, uploads.REMEMBERED)
    purge()
    assert not Upload.objects.exists()
