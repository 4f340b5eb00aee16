"""Files through the stock client; every JSON answer is checked against the SDK's types on its way (`shapes`)."""

import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conformance.lines import chats, jsonl
from tests.conformance.site import Site

pytestmark = pytest.mark.live
DAY = 86_400
CONTENT = jsonl(chats("one", "two"))


def test_it_works(client: openai.OpenAI) -> None:
    file = client.files.create(file=("questions.jsonl", CONTENT), purpose="batch")
    assert file.id.startswith("file-")
    assert (file.filename, file.bytes, file.purpose) == ("questions.jsonl", len(CONTENT), "batch")
    assert file.status == "processed"
    assert abs(file.created_at - time.time()) < 60
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == CONTENT
    assert client.files.wait_for_processing(file.id) == file
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    for read in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            read(file.id)


async def test_it_works_asynchronously(site: Site) -> None:
    async with site.async_client() as client:
        file = await client.files.create(file=("questions.jsonl", CONTENT), purpose="batch")
        assert await client.files.retrieve(file.id) == file
        assert await client.files.wait_for_processing(file.id) == file
        assert (await client.files.content(file.id)).read() == CONTENT
        assert [item async for item in client.files.list(limit=1) if item.id == file.id] == [file]
        assert (await client.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(file.id)


def test_a_path_can_be_uploaded(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "from disk.jsonl"
    path.write_bytes(CONTENT)
    assert client.files.create(file=path, purpose="batch").filename == "from disk.jsonl"


@pytest.mark.parametrize("name", ["Fragen äöü 质问.jsonl", "a;b=c.jsonl", "a b.jsonl"])
def test_names_survive(client: openai.OpenAI, name: str) -> None:
    file = client.files.create(file=(name, CONTENT), purpose="batch")
    assert client.files.retrieve(file.id).filename == name


def test_the_list_is_paged_through(site: Site) -> None:
    made = [site.upload(CONTENT, "stranger") for _ in range(5)]
    client, newest_first = site.client("stranger"), made[::-1]
    assert list(client.files.list())[:5] == newest_first
    page = client.files.list(limit=2)
    assert page.data == newest_first[:2]
    assert page.has_next_page()
    assert list(page)[:5] == newest_first
    assert list(client.files.list(limit=2, after=made[-1].id))[:4] == newest_first[1:]
    assert list(client.files.list(limit=2, order="asc"))[-5:] == made
    assert list(client.files.list(limit=2, order="asc", after=made[1].id)) == made[2:]
    assert not list(client.files.list(after=made[-1].id, order="asc"))


def test_the_list_is_filtered_by_purpose(client: openai.OpenAI) -> None:
    data = client.files.create(file=("data.csv", b"a,b"), purpose="user_data")
    tuning = client.files.create(file=("train.jsonl", b"{}"), purpose="fine-tune")
    assert data in client.files.list(purpose="user_data").data
    assert tuning not in client.files.list(purpose="user_data").data
    assert {file.purpose for file in client.files.list(purpose="batch")} <= {"batch"}


def test_batch_files_expire_after_thirty_days_and_others_never(client: openai.OpenAI) -> None:
    batch = client.files.create(file=("in.jsonl", CONTENT), purpose="batch")
    data = client.files.create(file=("in.txt", b"text"), purpose="user_data")
    assert batch.expires_at is not None
    assert abs(batch.expires_at - batch.created_at - 30 * DAY) <= 1
    assert data.expires_at is None


def test_a_client_chooses_when_its_file_expires(client: openai.OpenAI) -> None:
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=("in.jsonl", CONTENT), purpose="batch", expires_after=expiry)
    assert file.expires_at is not None
    assert abs(file.expires_at - file.created_at - 3600) <= 1
    assert file == client.files.retrieve(file.id)


def test_raw_answers_have_the_headers(client: openai.OpenAI) -> None:
    created = client.files.with_raw_response.create(file=("in.jsonl", CONTENT), purpose="batch")
    assert created.status_code == 200
    assert created.headers["content-type"] == "application/json"
    assert created.request_id
    file = created.parse()
    content = client.files.with_raw_response.content(file.id, extra_headers={"x-request-id": "mine-1"})
    assert content.request_id == "mine-1"
    assert content.headers["content-length"] == str(len(CONTENT))
    assert content.headers["content-type"] == "application/octet-stream"
    assert 'filename="in.jsonl"' in content.headers["content-disposition"]


def test_content_is_streamed_and_ranged(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 10_000
    file = client.files.create(file=("bytes.bin", content), purpose="user_data")
    with client.files.with_streaming_response.content(file.id) as response:
        assert b"".join(response.iter_bytes(4096)) == content
    for wanted, part, told in (
        ("bytes=0-9", content[:10], f"bytes 0-9/{len(content)}"),
        ("bytes=2559990-", content[-10:], f"bytes 2559990-2559999/{len(content)}"),
        ("bytes=-10", content[-10:], f"bytes 2559990-2559999/{len(content)}"),
    ):
        answer = client.files.with_raw_response.content(file.id, extra_headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"] == told
    with pytest.raises(openai.APIStatusError) as caught:
        client.files.content(file.id, extra_headers={"Range": f"bytes={len(content)}-"})
    assert caught.value.status_code == 416
    assert caught.value.response.headers["content-range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"purpose": "vision"}, "purpose", "invalid_value"),
        ({"purpose": "nonsense"}, "purpose", "invalid_value"),
        ({"purpose": openai.omit}, "purpose", "missing_required_parameter"),
        ({"file": ("input.txt", CONTENT)}, "file", None),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after[seconds]", "invalid_value"),
        ({"expires_after": {"anchor": "created_at", "seconds": 2_592_001}}, "expires_after[seconds]", "invalid_value"),
        ({"expires_after": {"anchor": "used_at", "seconds": 3600}}, "expires_after[anchor]", "invalid_value"),
        ({"expires_after": {"seconds": 3600}}, "expires_after[anchor]", "missing_required_parameter"),
    ],
)
def test_it_rejects_bad_parameters(site: Site, change: dict[str, Any], param: str, code: str | None) -> None:
    before = site.belongings()
    with pytest.raises(openai.BadRequestError) as caught:
        site.client().files.create(**{"file": ("in.jsonl", CONTENT), "purpose": "batch", **change})
    assert caught.value.param == param
    assert code is None or caught.value.code == code
    assert site.has_only(before)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"order": "sideways"}, "order"),
        ({"after": "file-nowhere"}, "after"),
        ({"after": "\0"}, "after"),
        ({"purpose": "nonsense"}, "purpose"),
    ],
)
def test_it_rejects_bad_queries(client: openai.OpenAI, query: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.list(**query)
    assert caught.value.param == param


def test_it_rejects_an_upload_without_a_file(site: Site) -> None:
    answer = site.http().post("/files", files={"purpose": (None, "batch")})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "file", "missing_required_parameter")


def test_it_rejects_json_where_a_form_is_due(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.post("/files", cast_to=object, body={"purpose": "batch"})
    assert caught.value.status_code == 415
