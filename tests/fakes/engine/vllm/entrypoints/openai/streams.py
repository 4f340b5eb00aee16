"""The fake's streams: the same answers as server-sent events, a word each, in vLLM's order and with its pauses."""

import itertools
import json
import os
import re
import time
from dataclasses import dataclass
from typing import Any

from . import answers

PAUSE = float(os.environ.get("FAKE_ENGINE_TOKEN_SECONDS", "0"))  # between two events
TOGETHER = int(os.environ.get("FAKE_ENGINE_EVENT_TOKENS", "1"))  # tokens of an event, as of a vLLM that is hurried
MARKER = re.compile(r"!(pace|die-after):([\d.]+)")
FINGERPRINT = "fake-1"

_serial = itertools.count(1)


@dataclass(frozen=True)
class Stream:
    events: list[bytes]
    pause: float
    dies_after: int | None
    """Events; then it kills itself."""


def stream(path: bytes, body: dict[str, Any], message: str) -> Stream:
    """What a request with `stream` is answered."""
    marks = dict(MARKER.findall(message))
    events = _response(body, message) if path == b"/v1/responses" else _chunks(path, body, message)
    dies_after = int(marks["die-after"]) if "die-after" in marks else None
    return Stream(events, float(marks.get("pace", PAUSE)), dies_after)


def _chunks(path: bytes, body: dict[str, Any], message: str) -> list[bytes]:
    """Chat and completions. The event that ends a choice has the fingerprint, unless a last one has it, with usage."""
    words, finish = answers.said(body, message)
    chat = path == b"/v1/chat/completions"
    frame = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{next(_serial):016x}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": int(time.time()),
        "model": body["model"],
    }
    parts = [" ".join(words[index : index + TOGETHER]) for index in range(0, len(words), TOGETHER)]
    pieces = [part if index == 0 else f" {part}" for index, part in enumerate(parts)]
    choices: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}] if chat else []
    choices += [{"delta": {"content": piece}} if chat else {"text": piece} for piece in pieces]
    frames: list[dict[str, Any]] = [
        frame | {"choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": None}]} for choice in choices
    ]
    frames[-1]["choices"][0]["finish_reason"] = finish
    if (body.get("stream_options") or {}).get("include_usage"):
        overhead = answers.PROMPT_OVERHEAD_TOKENS if chat else 0
        usage = json.loads(answers.counted(len(message.split()) + overhead, len(words)))
        frames.append(frame | {"choices": [], "usage": usage, "system_fingerprint": FINGERPRINT})
    else:
        frames[-1]["system_fingerprint"] = FINGERPRINT
    return [b"data: " + _compact(item) + b"\n\n" for item in frames] + [b"data: [DONE]\n\n"]


def _response(body: dict[str, Any], message: str) -> list[bytes]:
    words, _ = answers.said(body, message)
    whole = json.loads(answers.response(body, message))
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    told += [
        {"type": "response.output_text.delta", "delta": word if index == 0 else f" {word}", "item_id": "msg_1",
         "output_index": 0, "content_index": 0, "logprobs": []}
        for index, word in enumerate(words)
    ]  # fmt: skip
    told.append({"type": "response.completed", "response": whole})
    return [
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), _compact(event | {"sequence_number": number}))
        for number, event in enumerate(told)
    ]


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
