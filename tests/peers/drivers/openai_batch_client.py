"""openai-batch: a batch made line by line, its file uploaded as plain bytes, waited for and downloaded."""

import json
from pathlib import Path
from typing import Any

from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, lines, run, wait
from openai_batch import Batch
from openai_batch.providers import Provider, get_provider_by_base_url
from openai_batch.run import main

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}


def provider() -> Provider:
    found = get_provider_by_base_url(URL)
    found.api_key = KEY
    return found


def written(name: str, *requests: dict[str, Any]) -> Path:
    """An input file that the client wrote."""
    with Batch(name, provider=provider()) as batch:
        for request in requests:
            batch.add_to_batch(**request)
    return Path(name)


def ran(source: Any, kind: Any = None) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """The ended batch, its output and its errors."""
    batch = Batch(source, "output.jsonl", "errors.jsonl", provider=provider())
    batch.batch_type = kind
    done, output, errors = batch.submit_wait_download(interval=0.5, metadata={"who": "openai-batch"})
    assert done.status == "completed", done
    return done, rows(output), rows(errors)


def rows(path: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if path else []


@check("made, submitted and downloaded in one go")
def one_go() -> None:
    with Batch("one.jsonl", "one-output.jsonl", provider=provider()) as batch:
        batch.add_to_batch(**CHAT)
        done, output, _ = batch.submit_wait_download(interval=0.5)
    assert done.status == "completed"
    assert rows(output)


@check("chats from a file's path")
def chats() -> None:
    _, output, errors = ran(written("chats.jsonl", *[CHAT] * 5))
    assert not errors
    assert {row["custom_id"] for row in output} == {f"line-{number}" for number in range(1, 6)}
    assert all(row["response"]["body"]["choices"][0]["message"]["content"] for row in output)


@check("bytes")
def plain_bytes() -> None:
    assert len(ran(lines("one", "two"))[1]) == 2


@check("an open file")
def open_file() -> None:
    with written("open.jsonl", CHAT).open("rb") as file:
        assert len(ran(file)[1]) == 1


@check("a batch taken up again by its id")
def resumed() -> None:
    name = Batch(lines("one"), provider=provider()).submit()
    again = Batch(batch_id=name, output_file="again.jsonl", provider=provider())
    assert wait(again.status).status == "completed"
    assert len(rows(again.download()[0])) == 1


@check("its command line, which creates")
def command() -> None:
    path = written("command.jsonl", CHAT)
    name = main([str(path), "--base-url", URL, "--api-key", KEY, "--create"])
    assert str(name).startswith("batch_")
    wait(Batch(batch_id=name, provider=provider()).status)
    assert main(["--resume", str(name), "--base-url", URL, "--api-key", KEY, "--output-file", "command-output.jsonl"])
    assert rows("command-output.jsonl")


@check("a batch of which one line is wrong")
def half_a_batch() -> None:
    _, output, errors = ran(written("half.jsonl", CHAT, {**CHAT, "max_tokens": -1}))
    assert len(output) == len(errors) == 1
    assert errors[0]["response"]["status_code"] == 400


@check("embeddings")
def embeddings() -> None:
    requests = [{"model": EMBEDDING_MODEL, "input": text, "encoding_format": "float"} for text in ("one", "two")]
    with Batch("texts.jsonl", provider=provider()) as batch:
        for request in requests:
            batch.add_to_batch(**request)
        kind = batch.batch_type
    _, output, _ = ran(Path("texts.jsonl"), kind)
    assert all(row["response"]["body"]["data"][0]["embedding"] for row in output)


run("openai-batch")
