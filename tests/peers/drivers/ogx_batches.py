"""ogx (which was Llama Stack): its client's files, batches, chats and models. Its base URL is without /v1."""

import json
from pathlib import Path
from typing import Any

from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, lines, run, wait
from ogx_client import AsyncOgxClient, BadRequestError, NotFoundError, OgxClient

BASE = URL.removesuffix("/v1")
client = OgxClient(base_url=BASE, api_key=KEY)
MESSAGES: Any = [{"role": "user", "content": "Say hello."}]
CONTENT = lines("one", "two")
Path("input.jsonl").write_bytes(CONTENT)


def new_batch(**more: Any) -> Any:
    file = client.files.create(file=Path("input.jsonl"), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


@check("files from a path, bytes and a tuple")
def files() -> None:
    for form in (Path("input.jsonl"), CONTENT, ("input.jsonl", CONTENT)):
        assert client.files.create(file=form, purpose="batch").bytes == len(CONTENT)


@check("files: list, retrieve, content, delete")
def file_routes() -> None:
    new = client.files.create(file=("input.jsonl", CONTENT), purpose="batch")
    assert client.files.retrieve(new.id).filename == "input.jsonl"
    assert new.id in {file.id for file in client.files.list(limit=5)}
    assert client.files.with_raw_response.content(new.id).read() == CONTENT
    assert client.files.delete(new.id).deleted


@check("batch from create to output")
def whole_batch() -> None:
    new = new_batch(metadata={"who": "peer"})
    batch = wait(lambda: client.batches.retrieve(new.id))
    assert batch.status == "completed", batch
    content = client.files.with_raw_response.content(batch.output_file_id).read()
    assert sorted(json.loads(line)["custom_id"] for line in content.splitlines()) == ["r1", "r2"]


@check("batches: list pages by itself")
def list_batches() -> None:
    new = {new_batch().id for _ in range(2)}
    assert new <= {batch.id for batch in client.batches.list(limit=1)}


@check("batch is cancelled")
def cancelled() -> None:
    assert client.batches.cancel(new_batch().id).status in {"cancelling", "cancelled", "completed"}


@check("batch with its idempotency_key in the body")
def idempotent() -> None:
    file = client.files.create(file=("input.jsonl", CONTENT), purpose="batch")
    ids = {
        client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", idempotency_key="once"
        ).id
        for _ in range(2)
    }
    assert len(ids) == 1, ids


@check("async batches")
async def async_batches() -> None:
    async with AsyncOgxClient(base_url=BASE, api_key=KEY) as http:
        file = await http.files.create(file=("input.jsonl", CONTENT), purpose="batch")
        batch = await http.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert (await http.batches.retrieve(batch.id)).id == batch.id


@check("chat, sync and as a stream")
def chats() -> None:
    assert client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8).choices
    assert list(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True))


@check("completions and responses")
def others() -> None:
    assert client.completions.create(model=MODEL, prompt="One", max_tokens=4).choices
    assert client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16).output


@check("models")
def models() -> None:
    assert MODEL in {model.id for model in client.models.list().data}
    assert client.models.retrieve(MODEL).id == MODEL


@check("errors have their class")
def errors() -> None:
    for kind, ask in (
        (NotFoundError, lambda: client.batches.retrieve("batch_nope")),
        (BadRequestError, lambda: client.files.create(file=("a.txt", CONTENT), purpose="batch")),
    ):
        try:
            ask()
        except kind:
            continue
        raise AssertionError(kind)


@check("embeddings")
def embeddings() -> None:
    assert len(client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"]).data) == 2


run("ogx-client")
