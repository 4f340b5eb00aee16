"""The stock Python client: every way to give a file, sync and async, with each HTTP library, and every route it has."""

import asyncio
import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openai
from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, lines, run, wait
from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAI

client = OpenAI()
CONTENT = lines("one", "two")
PATH = Path("input.jsonl")
PATH.write_bytes(CONTENT)
MESSAGES: Any = [{"role": "user", "content": "Say hello."}]
chat = partial(client.chat.completions.create, model=MODEL, messages=MESSAGES, max_tokens=8)

FORMS: dict[str, Callable[[], Any]] = {
    "a path": lambda: PATH,
    "bytes": lambda: CONTENT,
    "a file object": lambda: PATH.open("rb"),
    "BytesIO": lambda: io.BytesIO(CONTENT),
    "a tuple": lambda: ("named.jsonl", CONTENT),
    "a tuple with a type": lambda: ("named.jsonl", CONTENT, "application/jsonl"),
    "a tuple with a file object": lambda: ("named.jsonl", PATH.open("rb")),
}


def upload(form: Callable[[], Any]) -> None:
    file = client.files.create(file=form(), purpose="batch")
    assert file.bytes == len(CONTENT), file
    assert client.files.content(file.id).read() == CONTENT


async def upload_async(form: Callable[[], Any], **options: Any) -> None:
    async with AsyncOpenAI(**options) as http:
        file = await http.files.create(file=form(), purpose="batch")
        assert file.bytes == len(CONTENT), file
        assert (await http.files.content(file.id)).read() == CONTENT


async def upload_aiohttp(form: Callable[[], Any]) -> None:
    await upload_async(form, http_client=DefaultAioHttpClient())


for name, form in FORMS.items():
    check(f"upload of {name}")(partial(upload, form))
    check(f"async upload of {name}")(partial(upload_async, form))
    check(f"async upload of {name} by aiohttp")(partial(upload_aiohttp, form))


def new_batch(content: bytes = CONTENT, **more: Any) -> Any:
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    create: Any = client.batches.create
    return create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more)


@check("batch from create to output")
def whole_batch() -> None:
    batch = new_batch(metadata={"who": "peer"})
    batch = wait(lambda: client.batches.retrieve(batch.id))
    assert batch.status == "completed", batch
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 0), batch
    assert batch.metadata == {"who": "peer"}
    content = client.files.content(batch.output_file_id)
    rows = [json.loads(line) for line in content.text.splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["r1", "r2"]
    assert content.content == content.read() == b"".join(content.iter_bytes())
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


@check("batch whose lines say numbers as pandas does")
def floats_batch() -> None:
    batch = new_batch(lines("one", max_tokens=4.0))
    batch = wait(lambda: client.batches.retrieve(batch.id))
    assert batch.status == "completed", batch
    assert batch.request_counts.total == 1, batch


@check("batch of which one line is wrong")
def half_a_batch() -> None:
    bad = {"custom_id": "bad", "method": "POST", "url": "/v1/chat/completions", "body": {"model": MODEL}}
    batch = new_batch(lines("one") + json.dumps(bad).encode())
    batch = wait(lambda: client.batches.retrieve(batch.id))
    assert batch.status == "completed", batch
    (row,) = map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    assert row["custom_id"] == "bad"
    assert row["response"]["status_code"] == 400
    assert row["error"] is None


@check("batch of a file that is no JSON")
def broken_batch() -> None:
    batch = new_batch(b"not json\n")
    batch = wait(lambda: client.batches.retrieve(batch.id))
    assert batch.status == "failed", batch
    assert batch.errors.data[0].line == 1, batch


@check("batch is cancelled")
def cancelled_batch() -> None:
    batch = new_batch(lines(*map(str, range(200)), max_tokens=64))
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
    assert wait(lambda: client.batches.retrieve(batch.id)).status == "cancelled"


@check("batches.list pages by itself")
def list_batches() -> None:
    new = {new_batch().id for _ in range(3)}
    found = [batch.id for batch in client.batches.list(limit=1)]
    assert new <= set(found)
    assert len(found) == len(set(found))


@check("batches and files of an async client")
async def async_batch() -> None:
    async with AsyncOpenAI() as http:
        assert [batch async for batch in http.batches.list(limit=2)]
        assert [file async for file in http.files.list(limit=2)]


@check("files.list pages by itself, by purpose")
def list_files() -> None:
    new = {client.files.create(file=CONTENT, purpose="batch").id for _ in range(3)}
    page = client.files.list(limit=1, purpose="batch", order="desc")
    assert len(page.data) == 1
    assert new <= {file.id for file, _ in zip(page, range(50), strict=False)}


@check("files.wait_for_processing")
def processed() -> None:
    file = client.files.create(file=CONTENT, purpose="batch")
    assert client.files.wait_for_processing(file.id, poll_interval=0.1).status == "processed"


@check("files.delete")
def delete() -> None:
    file = client.files.create(file=CONTENT, purpose="batch")
    assert client.files.delete(file.id).deleted
    raises(openai.NotFoundError, lambda: client.files.retrieve(file.id))


@check("files.create with an expiry")
def expiry() -> None:
    file = client.files.create(
        file=("a.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600


@check("files.content as it streams")
def streamed_content() -> None:
    file = client.files.create(file=("a.jsonl", CONTENT), purpose="batch")
    with client.files.with_streaming_response.content(file.id) as answer:
        assert b"".join(answer.iter_bytes()) == CONTENT
    client.files.content(file.id).write_to_file("copy.jsonl")
    assert Path("copy.jsonl").read_bytes() == CONTENT


@check("files of a purpose other than batch")
def fine_tune_file() -> None:
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = client.files.create(file=("train.jsonl", json.dumps(line).encode() + b"\n"), purpose="fine-tune")
    assert file.purpose == "fine-tune"
    assert isinstance(client.fine_tuning.jobs.list(limit=1).data, list)


@check("uploads: parts, complete")
def parts() -> None:
    file = client.uploads.upload_file_chunked(
        file=CONTENT, filename="big.jsonl", bytes=len(CONTENT), mime_type="application/jsonl", purpose="batch",
        part_size=100,
    )  # fmt: skip
    assert file.status == "completed", file
    assert file.file
    assert client.files.content(file.file.id).read() == CONTENT


@check("uploads: of a path")
def parts_of_a_path() -> None:
    done = client.uploads.upload_file_chunked(file=PATH, mime_type="application/jsonl", purpose="batch")
    assert done.file
    assert done.file.filename == PATH.name


@check("uploads: cancel")
def cancelled_upload() -> None:
    new = client.uploads.create(bytes=3, filename="a.jsonl", mime_type="application/jsonl", purpose="batch")
    assert client.uploads.cancel(new.id).status == "cancelled"


@check("a repeat of create gives the first batch")
def repeated_create() -> None:
    file = client.files.create(file=("a.jsonl", CONTENT), purpose="batch")
    ids = {
        client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
            extra_headers={"x-stainless-retry-count": str(number)},
        ).id
        for number in (0, 1)
    }  # fmt: skip
    assert len(ids) == 1, ids


@check("chat")
def one_chat() -> None:
    answer = chat()
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


@check("chat with two choices")
def two_chats() -> None:
    assert [choice.index for choice in chat(n=2, temperature=1).choices] == [0, 1]


@check("chat as a stream")
def chat_stream() -> None:
    events = list(chat(stream=True, stream_options={"include_usage": True}))
    assert events[-1].usage.completion_tokens > 0
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices)


@check("chat by the stream helper")
def chat_helper() -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=8) as stream:
        for _ in stream:
            pass
        assert stream.current_completion_snapshot.choices[0].message.content


@check("chat as a stream that is left early")
def chat_left() -> None:
    with chat(stream=True) as stream:
        next(iter(stream))
    assert chat().choices


@check("async chat, many at once")
async def async_chat() -> None:
    async with AsyncOpenAI() as http:
        ask = http.chat.completions.create
        answers = await asyncio.gather(*(ask(model=MODEL, messages=MESSAGES, max_tokens=4) for _ in range(20)))
        assert all(answer.choices for answer in answers)


@check("async chat by aiohttp, as a stream")
async def aiohttp_chat() -> None:
    async with AsyncOpenAI(http_client=DefaultAioHttpClient()) as http:
        stream = await http.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True)
        assert [event async for event in stream]


@check("chat with a schema")
def parsed_chat() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
    answer = chat(
        response_format={"type": "json_schema", "json_schema": {"name": "who", "schema": schema}}, max_tokens=64
    )
    assert answer.choices[0].message.content


@check("chat with OpenAI's own fields that mean nothing here")
def own_fields() -> None:
    assert chat(user="me", store=False, service_tier="auto", safety_identifier="me", metadata={"a": "b"}).choices


@check("with_raw_response")
def raw_chat() -> None:
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=4)
    assert answer.headers["x-request-id"] == answer.request_id
    assert answer.parse().choices


@check("with_streaming_response")
def streaming_chat() -> None:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, max_tokens=4, stream=True
    ) as answer:
        assert any(line == "data: [DONE]" for line in answer.iter_lines())


@check("completions")
def completions() -> None:
    answer = client.completions.create(model=MODEL, prompt=["One", "Two"], max_tokens=4)
    assert answer.choices


@check("responses")
def responses() -> None:
    answer = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16)
    assert answer.output_text


@check("responses as a stream")
def responses_stream() -> None:
    stream = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16, stream=True)
    kinds = [event.type for event in stream]
    assert kinds[0] == "response.created", kinds
    assert kinds[-1] in {"response.completed", "response.incomplete"}, kinds


@check("models")
def models() -> None:
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL


def raises(kind: type[openai.APIStatusError], ask: Callable[[], Any]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@check("errors have their class, code and words")
def errors() -> None:
    unknown = raises(openai.NotFoundError, lambda: chat(model="no-such-model"))
    assert unknown.code == "model_not_found", unknown
    key = raises(openai.AuthenticationError, client.with_options(api_key="sk-bad").models.list)
    assert key.code == "invalid_api_key", key
    wrong = raises(openai.BadRequestError, lambda: chat(temperature="hot"))
    assert (wrong.type, wrong.param) == ("invalid_request_error", "temperature"), wrong.body
    raises(openai.NotFoundError, lambda: client.batches.retrieve("batch_nope"))
    raises(openai.BadRequestError, lambda: client.files.create(file=("a.txt", b"{}"), purpose="batch"))
    for error in (unknown, key, wrong):
        assert error.code is None or isinstance(error.code, str), error.body
        assert error.request_id


@check("unknown fields are refused by name")
def unknown_field() -> None:
    error = raises(openai.BadRequestError, lambda: chat(extra_body={"max_tokenz": 3}))
    assert "max_tokenz" in error.message, error.message


@check("a connection is kept through errors, with their bodies unread")
def kept_connection() -> None:
    big = lines("x" * 300_000)
    for _ in range(3):
        with_bad = client.with_options(api_key="sk-bad", max_retries=0)
        raises(openai.AuthenticationError, lambda: with_bad.files.create(file=("a.jsonl", big), purpose="batch"))  # noqa: B023
        assert client.with_options(max_retries=0).models.list().data


@check("base_url with a slash at its end, organization, project, api-version, compressed answers")
def decorated() -> None:
    http = OpenAI(
        base_url=URL + "/", organization="org-1", project="proj_1", default_query={"api-version": "2024-10-21"},
        default_headers={"Accept-Encoding": "br, zstd, gzip", "Connection": "close"}, max_retries=0,
    )  # fmt: skip
    assert http.models.list().data
    assert http.files.create(file=CONTENT, purpose="batch").id
    assert http.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4).choices


@check("base_url without /v1 says what is missing")
def without_v1() -> None:
    http = OpenAI(base_url=URL.removesuffix("/v1"), max_retries=0)
    error = raises(openai.NotFoundError, http.models.list)
    assert "/v1" in error.message, error.message
    assert "<html" not in error.message, error.message


@check("the environment's base URL and key")
def environment() -> None:
    assert str(OpenAI().base_url).rstrip("/") == URL
    assert os.environ["OPENAI_API_KEY"] == KEY


@check("embeddings")
def embeddings() -> None:
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"])
    assert [row.index for row in answer.data] == [0, 1]
    assert isinstance(answer.data[0].embedding[0], float)
    plain = client.embeddings.create(model=EMBEDDING_MODEL, input="one", encoding_format="float")
    assert isinstance(plain.data[0].embedding[0], float)
    assert abs(plain.data[0].embedding[0] - answer.data[0].embedding[0]) < 1e-2


@check("a batch of embeddings")
def embeddings_batch() -> None:
    body = {"model": EMBEDDING_MODEL, "input": ["one", "two"]}
    line = {"custom_id": "e1", "method": "POST", "url": "/v1/embeddings", "body": body}
    file = client.files.create(file=json.dumps(line).encode(), purpose="batch")
    batch: Any = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    batch = wait(lambda: client.batches.retrieve(batch.id))
    assert batch.request_counts.completed == 1, batch


run("openai")
