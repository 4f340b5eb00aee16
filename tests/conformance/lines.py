"""Lines of a batch's input file, for each endpoint, and what is in its output."""

import json
from collections.abc import Sequence
from typing import Any, Final

CHAT_MODEL = "chat-model"
EMBEDDING_MODEL = "embedding-model"
CHAT: Final = "/v1/chat/completions"
URLS = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses")

Line = dict[str, Any]
Content = bytes | Sequence[Line | str | bytes]
"""A file's bytes, or its lines; one that is not an object stands in the file as it is."""


def line(number: int, text: str = "hello", *, url: str = CHAT, **body: Any) -> Line:
    """A good line, its custom_id `r<number>`. `body` adds to the request's body."""
    fields: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "user", "content": text}]},
        "/v1/completions": {"prompt": text},
        "/v1/embeddings": {"input": text},
        "/v1/responses": {"input": text},
    }
    model = EMBEDDING_MODEL if url == "/v1/embeddings" else CHAT_MODEL
    return {"custom_id": f"r{number}", "method": "POST", "url": url, "body": {"model": model, **fields[url], **body}}


def chats(*texts: str) -> list[Line]:
    return [line(number, text) for number, text in enumerate(texts, 1)]


def jsonl(lines: Content) -> bytes:
    """A file's bytes."""
    if isinstance(lines, bytes):
        return lines
    return b"".join(_bytes(line) + b"\n" for line in lines)


def _bytes(line: Line | str | bytes) -> bytes:
    if isinstance(line, dict):
        line = json.dumps(line)
    return line.encode() if isinstance(line, str) else line


def parsed(content: bytes) -> list[dict[str, Any]]:
    """The lines of an output file."""
    assert not content or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]
