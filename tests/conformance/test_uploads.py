"""Large files in parts, through the stock client; every answer is checked against the SDK's types (`shapes`)."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conformance.lines import CHAT, chats, jsonl
from tests.conformance.site import Site
from tests.conformance.test_idempotency import LosesAnswers

pytestmark = pytest.mark.live
CONTENT = jsonl(chats(*(f"question {number}" for number in range(50))))
SIZE = 1000  # bytes of a part
PARTS = [CONTENT[start : start + SIZE] for start in range(0, len(CONTENT), SIZE)]
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
NEW: dict[str, Any] = {"bytes": len(CONTENT), "filename": "in.jsonl", "mime_type": "text/jsonl", "purpose": "batch"}


def test_it_works(site: Site, client: openai.OpenAI) -> None:
    upload = client.uploads.create(**NEW)
    assert (upload.status, upload.file, upload.expires_at - upload.created_at) == ("pending", None, 3600)
    with ThreadPoolExecutor(4) as threads:  # in any order
        sent = list(threads.map(lambda data: client.uploads.parts.create(upload.id, data=data), PARTS))
    assert {part.upload_id for part in sent} == {upload.id}
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in sent], md5=MD5)
    assert done.status == "completed"
    assert done.file
    assert client.files.retrieve(done.file.id) == done.file
    assert client.files.content(done.file.id).read() == CONTENT
    batch = client.batches.create(input_file_id=done.file.id, endpoint=CHAT, completion_window="24h")
    assert site.wait(batch.id).status == "completed"


async def test_it_works_asynchronously(site: Site) -> None:
    async with site.async_client() as client:
        upload = await client.uploads.create(**NEW)
        sent = await asyncio.gather(*(client.uploads.parts.create(upload.id, data=data) for data in PARTS))
        done = await client.uploads.complete(upload.id, part_ids=[part.id for part in sent])
        assert done.file
        assert (await client.files.content(done.file.id)).read() == CONTENT


@pytest.mark.parametrize("size", [None, SIZE, len(CONTENT) - 1])
def test_the_client_cuts_files(client: openai.OpenAI, tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(CONTENT)
    uploads = client.uploads
    from_disk = uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="batch", part_size=size, md5=MD5)
    from_memory = uploads.upload_file_chunked(
        file=CONTENT, filename="m.jsonl", bytes=len(CONTENT), mime_type="text/jsonl", purpose="batch", part_size=size
    )
    for upload, name in ((from_disk, "questions.jsonl"), (from_memory, "m.jsonl")):
        assert upload.file
        assert upload.file.filename == name
        assert client.files.content(upload.file.id).read() == CONTENT


def test_it_survives_lost_answers(site: Site) -> None:
    """To each request of the exchange the first answer never comes: still one upload, one part, one file."""
    before, transport = site.belongings(), LosesAnswers()
    http = openai.DefaultHttpxClient(transport=transport)
    with openai.OpenAI(base_url=site.url, api_key=site.keys["owner"], http_client=http, max_retries=2) as client:
        done = client.uploads.upload_file_chunked(
            file=CONTENT, filename="m.jsonl", bytes=len(CONTENT), mime_type="text/jsonl", purpose="batch"
        )
    assert len(transport.sent) == 6
    assert done.status == "completed"
    assert site.belongings()[0] == before[0] + 1
    ((status, parts),) = site.sql(
        "SELECT status, (SELECT count(*) FROM batches_uploadpart p WHERE p.upload_id = u.id)"
        " FROM batches_upload u WHERE uid = %s",
        done.id,
    )
    assert (status, parts) == ("completed", 0)


def test_it_can_be_given_up(site: Site, client: openai.OpenAI) -> None:
    before = site.belongings()
    upload = client.uploads.create(**NEW)
    part = client.uploads.parts.create(upload.id, data=PARTS[0])
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert site.has_only(before)
    for refused in (
        lambda: client.uploads.parts.create(upload.id, data=b"x"),
        lambda: client.uploads.complete(upload.id, part_ids=[part.id]),
    ):
        with pytest.raises(openai.ConflictError, match="cancelled"):
            refused()


def test_it_rejects_a_part_beyond_the_limit_from_its_length_alone(site: Site, client: openai.OpenAI) -> None:
    upload = client.uploads.create(**{**NEW, "bytes": 100_000_000})
    with pytest.raises(openai.APIStatusError) as caught:
        client.uploads.parts.create(upload.id, data=b"x" * (65 * 1024**2))
    assert caught.value.status_code == 413
    client.uploads.cancel(upload.id)


def test_it_says_what_is_too_large_before_it_is_sent(client: openai.OpenAI) -> None:
    for purpose, size in (("batch", 300_000_000), ("user_data", 9 * 1024**3)):
        with pytest.raises(openai.APIStatusError, match="the most for the purpose") as caught:
            client.uploads.create(**{**NEW, "purpose": purpose, "bytes": size})
        assert caught.value.status_code == 413


def test_a_stranger_sees_none_of_it(site: Site, client: openai.OpenAI) -> None:
    upload = client.uploads.create(**NEW)
    part = client.uploads.parts.create(upload.id, data=PARTS[0])
    theirs = site.client("stranger").uploads
    for refused in (
        lambda: theirs.parts.create(upload.id, data=b"x"),
        lambda: theirs.complete(upload.id, part_ids=[part.id]),
        lambda: theirs.cancel(upload.id),
    ):
        with pytest.raises(openai.NotFoundError):
            refused()
    client.uploads.cancel(upload.id)
