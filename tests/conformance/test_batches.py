"""Batches as objects: created, read, listed, cancelled. What becomes of them is in `test_statuses`."""

import time
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.conformance.lines import CHAT, chats
from tests.conformance.site import Site

pytestmark = pytest.mark.live
DAY = 86_400


@pytest.fixture(scope="module")
def file_id(site: Site) -> str:
    return site.upload(chats("hello")).id


def create(site: Site, file_id: str, **parameters: Any) -> Batch:
    wanted: dict[str, Any] = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **parameters}
    return site.client().batches.create(**wanted)


def test_it_works(site: Site, file_id: str) -> None:
    batch = create(site, file_id, metadata={"who": "me"})
    assert batch.id.startswith("batch_")
    assert (batch.object, batch.endpoint, batch.input_file_id) == ("batch", CHAT, file_id)
    assert (batch.completion_window, batch.metadata) == ("24h", {"who": "me"})
    assert batch.status in ("validating", "in_progress", "finalizing", "completed")
    assert abs(batch.created_at - time.time()) < 60
    assert batch.expires_at is not None
    assert abs(batch.expires_at - batch.created_at - DAY) <= 1
    assert site.wait(batch.id).status == "completed"


async def test_it_works_asynchronously(site: Site, file_id: str) -> None:
    async with site.async_client() as client:
        batch = await client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        site.wait(batch.id)
        ended = await client.batches.retrieve(batch.id)
        assert ended.status == "completed"
        assert [item async for item in client.batches.list(limit=1) if item.id == batch.id] == [ended]
        assert ended.output_file_id is not None
        assert b"Answer to: hello" in (await client.files.content(ended.output_file_id)).read()
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(batch.id)


def test_a_new_batch_knows_nothing_yet(site: Site, file_id: str) -> None:
    """Every nullable key is there as null, which `shapes` checks; here, what null must be."""
    raw = site.client().batches.with_raw_response.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    assert raw.request_id
    batch = raw.http_response.json()
    assert batch["metadata"] is None
    nulls = "errors output_file_id error_file_id finalizing_at completed_at failed_at expired_at cancelling_at "
    assert {batch[key] for key in (nulls + "cancelled_at usage").split()} == {None}
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    site.wait(batch["id"])


def test_the_list_is_paged_through(site: Site) -> None:
    file, client = site.upload(chats("hello"), "stranger"), site.client("stranger")
    made = [client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id for _ in range(5)]
    for batch_id in made:
        site.wait(batch_id, role="stranger")
    newest_first = made[::-1]
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == newest_first[:2]
    assert page.has_next_page()
    assert [batch.id for batch in page][:5] == newest_first
    assert [batch.id for batch in client.batches.list(limit=2, after=made[3])][:3] == newest_first[2:]
    assert client.batches.list(limit=100).data[0] == client.batches.retrieve(made[-1])


def test_metadata_is_kept_to_the_letter(site: Site, file_id: str) -> None:
    full = {f"{number:064}": "ä" * 512 for number in range(16)}
    for metadata in ({}, {"key": ""}, {"key": "  spaces "}, full):
        batch = create(site, file_id, metadata=metadata)
        assert batch.metadata == metadata
        assert site.wait(batch.id).metadata == metadata


def test_outputs_expire_when_told_to(site: Site, file_id: str) -> None:
    batch = create(site, file_id, output_expires_after={"anchor": "created_at", "seconds": 3600})
    output = site.client().files.retrieve(site.wait(batch.id).output_file_id or "")
    assert output.purpose == "batch_output"
    assert output.expires_at is not None
    assert abs(output.expires_at - output.created_at - 3600) <= 1


def test_output_files_are_files(site: Site, file_id: str) -> None:
    ended = site.wait(create(site, file_id).id)
    client = site.client()
    output = client.files.retrieve(ended.output_file_id or "")
    assert output in client.files.list(purpose="batch_output").data
    assert output.expires_at is None
    assert len(client.files.content(output.id).read()) == output.bytes
    client.files.delete(output.id)
    assert client.batches.retrieve(ended.id).output_file_id is None


def test_a_deleted_input_does_not_take_its_batch_along(site: Site) -> None:
    batch = site.run(chats("hello"))
    site.client().files.delete(batch.input_file_id)
    assert site.client().batches.retrieve(batch.id) == batch


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": "\0"}, "input_file_id"),
        ({"input_file_id": ""}, "input_file_id"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": "chat"}, "endpoint"),
        ({"completion_window": "25"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"completion_window": 24}, "completion_window"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": {"deep": "v"}}}, "metadata.k"),
        ({"metadata": {"k": "\0"}}, "metadata.k"),
        ({"metadata": "text"}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after.anchor"),
        ({"extra_body": {"priority": 101}}, "priority"),
        ({"extra_body": {"priority": "high"}}, "priority"),
    ],
)
def test_it_rejects_bad_parameters(site: Site, file_id: str, change: dict[str, Any], param: str) -> None:
    before = site.belongings()
    with pytest.raises(openai.BadRequestError) as caught:
        create(site, file_id, **change)
    assert caught.value.param == param
    assert site.has_only(before)


@pytest.mark.parametrize("name", ["input_file_id", "endpoint", "completion_window"])
def test_it_rejects_missing_parameters(site: Site, file_id: str, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(site, file_id, **{name: openai.omit})
    assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")


def test_it_rejects_a_file_of_another_purpose(site: Site) -> None:
    file = site.client().files.create(file=("data.jsonl", b"{}"), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as caught:
        create(site, file.id)
    assert "purpose" in caught.value.message
    assert caught.value.param == "input_file_id"


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"after": "batch_no"}])
def test_it_rejects_bad_queries(client: openai.OpenAI, query: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.list(**query)
    assert caught.value.param in query


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_it_rejects_cancelling_what_has_ended(site: Site, status: str) -> None:
    batch = site.run(chats("hello") if status == "completed" else b"\n")
    assert batch.status == status
    with pytest.raises(openai.ConflictError):
        site.client().batches.cancel(batch.id)
    assert site.client().batches.retrieve(batch.id) == batch


def test_it_rejects_unknown_batches(client: openai.OpenAI) -> None:
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError) as caught:
            call("batch_nowhere")
        assert caught.value.code == "batch_not_found"


def test_unknown_routes_are_the_clients_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.delete("/batches/batch_1/nothing", cast_to=object)
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.list()
    with pytest.raises(openai.APIStatusError) as caught:
        client.delete("/batches", cast_to=object)
    assert caught.value.status_code == 405
