"""autobatcher: an AsyncOpenAI whose requests are collected into batches, read from the output while it grows."""

import asyncio
from typing import Any

from autobatcher import BatchOpenAI
from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, run

MESSAGES: Any = [{"role": "user", "content": "Say hello."}]


def batching(**options: Any) -> BatchOpenAI:
    more = {"completion_window": "24h", **options}
    return BatchOpenAI(
        api_key=KEY, base_url=URL, batch_size=4, batch_window_seconds=0.5, poll_interval_seconds=0.5, **more
    )


@check("chats become a batch")
async def chats() -> None:
    async with batching() as client:
        ask = client.chat.completions.create
        answers = await asyncio.gather(*(ask(model=MODEL, messages=MESSAGES, max_tokens=8) for _ in range(4)))
    assert all(answer.choices[0].message.content for answer in answers)


@check("more chats than one batch takes, and metadata")
async def many() -> None:
    events: list[dict[str, Any]] = []
    async with batching(batch_metadata={"who": "peer"}, batch_event_handler=events.append) as client:
        ask = client.chat.completions.create
        answers = await asyncio.gather(*(ask(model=MODEL, messages=MESSAGES, max_tokens=8) for _ in range(10)))
    assert len(answers) == 10
    assert events


@check("responses become a batch")
async def responses() -> None:
    async with batching() as client:
        answer = await client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16)
    assert answer.output_text


@check("extra fields of the engine")
async def extra() -> None:
    async with batching() as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=8, extra_body={"top_k": 5, "min_p": 0.1}
        )
    assert answer.choices


@check("a failed request is an error of its own")
async def failure() -> None:
    async with batching() as client:
        ask = client.chat.completions.create
        good, bad = await asyncio.gather(
            ask(model=MODEL, messages=MESSAGES, max_tokens=8),
            ask(model=MODEL, messages=MESSAGES, max_tokens=-1),
            return_exceptions=True,
        )
    assert not isinstance(good, BaseException), good
    assert isinstance(bad, Exception)


@check("active batches are cancelled on close")
async def cancelled() -> None:
    client = batching(cancel_active_batches_on_close=True)
    task = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=400))
    await asyncio.sleep(1.5)
    await client.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@check("flex: background responses, polled")
async def flex() -> None:
    client = batching(completion_window=None, max_poll_retries=0, max_retries=0)
    answer = await asyncio.wait_for(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16), 60)
    await client.close()
    assert answer.choices


@check("embeddings become a batch")
async def embeddings() -> None:
    async with batching() as client:
        answers = await asyncio.gather(
            *(client.embeddings.create(model=EMBEDDING_MODEL, input=text) for text in ("one", "two"))
        )
    assert all(answer.data[0].embedding for answer in answers)


run("autobatcher")
