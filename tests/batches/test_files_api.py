import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches.models import File
from apps.events.models import Event
from tests.batches.cast import LINE, expire, make_file

CONTENT = b"0123456789" * 100_000
KEYS = {"id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status", "status_details"}

streamed = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")


def upload(api: APIClient, content: bytes = LINE, name: str = "in.jsonl", headers: Any = None, **form: Any) -> Any:
    data = {"file": SimpleUploadedFile(name, content), "purpose": "batch", **form}
    return api.post("/v1/files", {key: value for key, value in data.items() if value is not None}, headers=headers)


def refused(response: Any, status: int = 400) -> tuple[str | None, str | None]:
    assert response.status_code == status, response.content
    error = response.json()["error"]
    return error["param"], error["code"]


def kept() -> list[str]:
    """Every file below the folder of files."""
    return [str(path) for path in settings.FILES_DIR.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def files_dir(tmp_path: Path, settings: Any) -> None:
    """A folder of files of this test's own."""
    settings.FILES_DIR = tmp_path / "files"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "files/incoming"
    location = {"location": str(tmp_path / "files")}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": location}}


def test_it_works(api: APIClient, project: Project) -> None:
    response = upload(api)
    assert response.status_code == 200
    made = response.json()
    assert set(made) == KEYS
    file = File.objects.get()
    assert made["id"] == file.uid
    assert made["object"] == "file"
    assert made["bytes"] == len(LINE)
    assert made["status"] == "processed"
    assert made["expires_at"] == made["created_at"] + 30 * 86_400
    assert file.sha256 == hashlib.sha256(LINE).hexdigest()
    assert file.content.name == f"{project.uid}/{file.uid}"
    assert file.content.read() == LINE
    assert Event.objects.get().data == {"id": file.uid}
    assert len(kept()) == 1


def test_only_batch_files_expire_by_themselves(api: APIClient) -> None:
    assert upload(api, name="notes.txt", purpose="user_data").json()["expires_at"] is None


def test_an_expiry_can_be_chosen(api: APIClient) -> None:
    expiry: dict[str, Any] = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = upload(api, **expiry).json()
    assert made["expires_at"] == made["created_at"] + 3600


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 400}, "expires_after[seconds]"),
        ({"purpose": None}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"purpose": "batch\0"}, "purpose"),
        ({"file": None}, "file"),
        ({"file": "text"}, "file"),
    ],
)
def test_it_rejects_a_bad_form(api: APIClient, form: dict[str, Any], param: str) -> None:
    assert refused(upload(api, **form))[0] == param
    assert not File.objects.exists()
    assert not kept()


@pytest.mark.parametrize("purpose", ["batch", "fine-tune"])
@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.jsonl.gz", "a.b.zip", "IN.PARQUET", ".csv"])
def test_it_rejects_a_name_of_another_kind_of_file(api: APIClient, name: str, purpose: str) -> None:
    response = upload(api, name=name, purpose=purpose)
    assert refused(response) == ("file", "invalid_file_format")
    assert "end in .jsonl" in response.json()["error"]["message"]
    assert not kept()


@pytest.mark.parametrize("purpose", ["batch", "fine-tune"])
@pytest.mark.parametrize(
    "name", ["upload", "blob", "file", "3", "jsonl", "in.", "run-2026.11.28", "in.JSONL", "data.json", "in.ndjson"]
)
def test_a_name_needs_no_suffix(api: APIClient, name: str, purpose: str) -> None:
    assert upload(api, name=name, purpose=purpose).json()["filename"] == name


def test_other_purposes_take_any_name(api: APIClient) -> None:
    assert upload(api, name="data.zip", purpose="user_data").json()["filename"] == "data.zip"


def raw_upload(api: APIClient, disposition: str, content: bytes = LINE) -> Any:
    head = '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
    head += f"Content-Disposition: form-data; {disposition}\r\n\r\n"
    body: Any = head.encode() + content + b"\r\n--b--\r\n"
    return api.generic("POST", "/v1/files", body, content_type="multipart/form-data; boundary=b")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"', "upload"),
        ('name="file"; filename=""', "upload"),
        ('name="file"; filename=".."', "upload"),
        ('name="file"; filename="/"', "upload"),
        ('name="file"; filename="\x01"', "upload"),
        ("name=file; filename=blob", "blob"),
        ('name="file"; filename="say %22hi%22.jsonl"', 'say "hi".jsonl'),
        ("name=\"file\"; filename*=UTF-8''na%C3%AFve.jsonl", "naïve.jsonl"),
        ('name="file"; filename="C:\\\\fakepath\\\\in.jsonl"', "in.jsonl"),
        ('name="file"; filename="' + "é" * 300 + '"', "é" * 255),
        ('name="file"; filename="' + "x" * 300 + '.jsonl"', "x" * 249 + ".jsonl"),
    ],
)
def test_it_survives_a_name_that_is_none(api: APIClient, disposition: str, name: str) -> None:
    made = raw_upload(api, disposition).json()
    assert made.get("filename") == name, made
    assert (made["bytes"], File.objects.get().content.read()) == (len(LINE), LINE)


def test_it_rejects_a_path_in_place_of_a_file(api: APIClient) -> None:
    response = raw_upload(api, 'name="file"', b"in.jsonl")
    assert refused(response)[0] == "file"
    assert "file=@PATH" in response.json()["error"]["message"]


def test_it_rejects_a_file_without_a_name_whose_bytes_are_lost(api: APIClient) -> None:
    response = raw_upload(api, 'name="file"', b'{"a": "caf\xe9"}\n')
    assert refused(response)[0] == "file"
    assert "filename" in response.json()["error"]["message"]


def test_it_rejects_an_empty_file(api: APIClient) -> None:
    assert refused(upload(api, b"")) == ("file", "empty_file")
    assert not kept()


def test_it_rejects_a_file_over_the_limit(api: APIClient, settings: Any) -> None:
    settings.FILE_MAX_BYTES = 10
    assert refused(upload(api), 413) == ("file", "file_too_large")
    assert not kept()


def test_it_rejects_a_form_that_was_cut(api: APIClient) -> None:
    head = '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
    head += 'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"custom_id": "a", "me'
    response = api.generic("POST", "/v1/files", head, content_type="multipart/form-data; boundary=b")
    refused(response)
    assert "closing boundary" in response.json()["error"]["message"]
    assert not File.objects.exists()
    assert not kept()


def test_it_survives_a_name_that_is_a_path(api: APIClient) -> None:
    made = upload(api, name="../../etc/passwd.jsonl").json()
    assert made["filename"] == "passwd.jsonl"
    assert len(kept()) == 1


@pytest.mark.parametrize("name", ["naïve 模型.jsonl", 'quo"te.jsonl', "a" * 240 + ".jsonl"])
@streamed
def test_it_survives_a_strange_name(api: APIClient, name: str) -> None:
    made = upload(api, name=name).json()
    assert made["filename"] == name
    content = api.get(f"/v1/files/{made['id']}/content")
    assert content.headers["Content-Disposition"].startswith("attachment; filename")


def test_it_survives_storage_that_is_full(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("apps.batches.storage.os.fsync", full)
    assert upload(api).status_code == 507
    assert not File.objects.exists()
    assert not kept()


def test_the_same_idempotency_key_makes_one_file(api: APIClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first, second = upload(api, headers=headers), upload(api, headers=headers)
    assert first.json() == second.json()
    assert File.objects.count() == 1
    assert len(kept()) == 1
    assert refused(upload(api, LINE + LINE, headers=headers), 409)[1] == "idempotency_key_reused"


def test_list(api: APIClient, project: Project, stranger: APIClient) -> None:
    files = [make_file(project).uid for _ in range(5)] + [make_file(project, purpose="fine-tune").uid]
    body = api.get("/v1/files").json()
    assert body["object"] == "list"
    assert [file["id"] for file in body["data"]] == files[::-1]
    assert (body["first_id"], body["last_id"], body["has_more"]) == (files[-1], files[0], False)
    assert [file["id"] for file in api.get("/v1/files?order=asc&limit=2").json()["data"]] == files[:2]
    assert [file["id"] for file in api.get("/v1/files?purpose=fine-tune").json()["data"]] == files[-1:]
    assert stranger.get("/v1/files").json() == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_every_file_once(api: APIClient, project: Project, order: str) -> None:
    files = {make_file(project).uid for _ in range(7)}
    seen: list[str] = []
    query = f"/v1/files?limit=3&order={order}"
    while True:
        body = api.get(query + (f"&after={seen[-1]}" if seen else "")).json()
        seen += [file["id"] for file in body["data"]]
        if not body["has_more"]:
            break
    assert len(seen) == 7
    assert set(seen) == files


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("purpose=none", "purpose"),
        ("after=file-none", "after"),
        ("after=%00", "after"),
        ("after=" + "9" * 5000, "after"),
    ],
)
def test_it_rejects_a_bad_query(api: APIClient, query: str, param: str) -> None:
    assert refused(api.get(f"/v1/files?{query}"))[0] == param


def test_it_rejects_a_strangers_cursor(stranger: APIClient, project: Project) -> None:
    assert refused(stranger.get(f"/v1/files?after={make_file(project).uid}"))[0] == "after"


def test_a_page_costs_the_same_however_many_files(api: APIClient, project: Project) -> None:
    make_file(project)
    api.get("/v1/files")
    with CaptureQueriesContext(connection) as one:
        api.get("/v1/files")
    for _ in range(10):
        make_file(project)
    with CaptureQueriesContext(connection) as many:
        api.get("/v1/files")
    assert len(one) == len(many) == 2


def test_retrieve_and_delete(
    api: APIClient, project: Project, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    file = make_file(project)
    path = f"/v1/files/{file.uid}"
    assert api.get(path).json()["id"] == file.uid
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(path).json() == {"id": file.uid, "object": "file", "deleted": True}
    assert not default_storage.exists(str(file.content))
    for response in (api.get(path), api.delete(path), api.get(f"{path}/content")):
        assert refused(response, 404) == ("id", "file_not_found")


@streamed
def test_content(api: APIClient, project: Project) -> None:
    file = make_file(project, CONTENT)
    response = api.get(f"/v1/files/{file.uid}/content")
    assert response.status_code == 200
    assert b"".join(response) == CONTENT
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Content-Disposition"] == 'attachment; filename="input.jsonl"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["ETag"] == f'"{file.sha256}"'


@streamed
def test_content_of_any_accept(api: APIClient, project: Project) -> None:
    path = f"/v1/files/{make_file(project).uid}/content"
    assert api.get(path, headers={"Accept": "application/binary"}).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=999990-", 999_990, 1_000_000), ("bytes=-4", 999_996, 1_000_000)],
)
@streamed
def test_a_download_can_be_resumed(api: APIClient, project: Project, wanted: str, start: int, end: int) -> None:
    path = f"/v1/files/{make_file(project, CONTENT).uid}/content"
    response = api.get(path, headers={"Range": wanted})
    assert response.status_code == 206
    assert b"".join(response) == CONTENT[start:end]
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/1000000"
    assert response.headers["Content-Length"] == str(end - start)


@streamed
def test_a_changed_file_is_sent_whole(api: APIClient, project: Project) -> None:
    file = make_file(project, CONTENT)
    path = f"/v1/files/{file.uid}/content"
    resumed = api.get(path, headers={"Range": "bytes=5-", "If-Range": f'"{file.sha256}"'})
    changed = api.get(path, headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (resumed.status_code, changed.status_code) == (206, 200)


def test_it_rejects_a_range_outside(api: APIClient, project: Project) -> None:
    response = api.get(f"/v1/files/{make_file(project).uid}/content", headers={"Range": "bytes=9999-"})
    assert refused(response, 416)[1] == "invalid_range"
    assert response.headers["Content-Range"] == f"bytes */{len(LINE)}"


def test_the_content_of_an_expired_file_is_gone(api: APIClient, project: Project) -> None:
    file = make_file(project)
    expire(file)
    refused(api.get(f"/v1/files/{file.uid}/content"), 404)


@pytest.mark.parametrize("uid", ["%00", "a%20b", "x" * 65, "é", "..", "a%2Fb"])
def test_it_survives_ids_that_are_none(api: APIClient, uid: str) -> None:
    assert api.get(f"/v1/files/{uid}").status_code == 404
