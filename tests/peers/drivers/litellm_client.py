"""LiteLLM as a library: files and batches by its `openai` provider, chats by that and by `hosted_vllm`."""

import json
from pathlib import Path
from typing import Any

import litellm
from checks import EMBEDDING_MODEL, ENDED, KEY, MODEL, URL, check, lines, run, wait

litellm.telemetry = False
PLACE: dict[str, Any] = {"custom_llm_provider": "openai", "api_base": URL, "api_key": KEY}
MESSAGES = [{"role": "user", "content": "Say hello."}]
CONTENT = lines("one", "two")
Path("input.jsonl").write_bytes(CONTENT)


def file(form: Any = None) -> Any:
    return litellm.create_file(file=form or ("input.jsonl", CONTENT), purpose="batch", **PLACE)


def new_batch() -> Any:
    name = file().id
    return litellm.create_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=name, metadata={"who": "peer"}, **PLACE
    )


def retrieve(name: str) -> Any:
    return litellm.retrieve_batch(batch_id=name, **PLACE)


@check("files from a file object, bytes and a tuple")
def files() -> None:
    with Path("input.jsonl").open("rb") as opened:
        assert file(opened).bytes == len(CONTENT)
    assert file(CONTENT).bytes == len(CONTENT)
    assert file(("input.jsonl", CONTENT, "application/jsonl")).bytes == len(CONTENT)


@check("files: list, retrieve, content, delete")
def file_routes() -> None:
    new = file()
    assert litellm.file_retrieve(file_id=new.id, **PLACE).id == new.id
    assert litellm.file_content(file_id=new.id, **PLACE).content == CONTENT
    assert new.id in {found.id for found in litellm.file_list(**PLACE)}
    assert litellm.file_delete(file_id=new.id, **PLACE).deleted


@check("batch from create to output")
def whole_batch() -> None:
    name = new_batch().id
    batch = wait(lambda: retrieve(name))
    assert batch.status == "completed", batch
    content = litellm.file_content(file_id=batch.output_file_id, **PLACE).text
    assert sorted(json.loads(line)["custom_id"] for line in content.splitlines()) == ["r1", "r2"]


@check("async batch from create to output")
async def async_batch() -> None:
    new = await litellm.acreate_file(file=("input.jsonl", CONTENT), purpose="batch", **PLACE)
    batch = await litellm.acreate_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=new.id, **PLACE
    )
    done = wait(lambda: retrieve(batch.id))
    assert done.status == "completed", done
    assert (await litellm.afile_content(file_id=done.output_file_id, **PLACE)).content
    assert (await litellm.aretrieve_batch(batch_id=batch.id, **PLACE)).id == batch.id


@check("batches.list")
def list_batches() -> None:
    name = new_batch().id
    assert name in {batch.id for batch in litellm.list_batches(limit=10, **PLACE).data}


@check("batch is cancelled")
def cancelled() -> None:
    name = new_batch().id
    assert litellm.cancel_batch(batch_id=name, **PLACE).status in {"cancelling", *ENDED}


def chat(model: str, **more: Any) -> Any:
    return litellm.completion(model=model, messages=MESSAGES, api_base=URL, api_key=KEY, max_tokens=8, **more)


@check("chat, sync and as a stream, by openai/")
def openai_chat() -> None:
    assert chat(f"openai/{MODEL}").choices[0].message.content
    assert list(chat(f"openai/{MODEL}", stream=True))


@check("chat by hosted_vllm/, with the engine's fields")
def vllm_chat() -> None:
    assert chat(f"hosted_vllm/{MODEL}", top_k=5).choices[0].message.content
    assert list(chat(f"hosted_vllm/{MODEL}", stream=True))


@check("async chat")
async def async_chat() -> None:
    answer = await litellm.acompletion(
        model=f"openai/{MODEL}", messages=MESSAGES, api_base=URL, api_key=KEY, max_tokens=8, user="me"
    )
    assert answer.choices


@check("text completion and responses")
def others() -> None:
    place = {"api_base": URL, "api_key": KEY}
    answer = litellm.text_completion(model=f"text-completion-openai/{MODEL}", prompt="One", max_tokens=4, **place)
    assert answer.choices
    assert litellm.responses(model=f"openai/{MODEL}", input="Say hello.", max_output_tokens=16, **place).output


@check("errors keep their class")
def errors() -> None:
    try:
        chat("openai/no-such-model")
    except litellm.NotFoundError as error:
        words = str(error)
    else:
        raise AssertionError("no error")
    assert "no-such-model" in words
    try:
        litellm.completion(model=f"openai/{MODEL}", messages=MESSAGES, api_base=URL, api_key="sk-bad", num_retries=0)
    except litellm.AuthenticationError:
        return
    raise AssertionError("no error")


@check("embeddings")
def embeddings() -> None:
    answer = litellm.embedding(model=f"openai/{EMBEDDING_MODEL}", input=["one", "two"], api_base=URL, api_key=KEY)
    assert len(answer.data) == 2


run("litellm")
