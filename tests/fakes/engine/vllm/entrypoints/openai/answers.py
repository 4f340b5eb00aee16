"""What the fake engine answers: bodies in the shape of vLLM 0.32's, with the request's own text in them.

The answer to MESSAGE is "Answer to: MESSAGE", a token is a word, and an embedding has four numbers.
"""

import itertools
import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

VOICES = os.environ.get("FAKE_ENGINE_VOICES")

USUAL = "Answer to:"
END = "<|end|>"  # of a turn
LIKELY, UNLIKELY = -0.125, -3.0  # log-probabilities
PROMPT_OVERHEAD_TOKENS = 8  # of a chat template
EMBEDDING = [0.5, -0.5, 0.5, -0.5]

SHIFTS: dict[str, float] = {}  # by the name of an adapter: how its numbers differ from its base's

_serial = itertools.count(1)


def error(status: int, kind: str, message: str, param: str | None = None) -> tuple[int, bytes]:
    """An error as vLLM writes it."""
    return status, json.dumps({"error": {"message": message, "type": kind, "param": param, "code": status}}).encode()


def last_message(body: dict[str, Any]) -> str:
    """The last user's text of a request to any route; its markers steer the fake."""
    found = body.get("messages") or body.get("input") or body.get("prompt") or ""
    while isinstance(found, list) and found:
        turns = [turn for turn in found if isinstance(turn, dict) and turn.get("role") == "user"]
        found = (turns or found)[-1]
        if isinstance(found, dict):
            found = found.get("content") or found.get("text") or ""
    return found if isinstance(found, str) else ""


def without_room(body: dict[str, Any], context: int) -> tuple[int, bytes] | None:
    """As vLLM: a prompt beyond the context is an error, and so is an answer; what both have too much the answer loses.

    `context` is in tokens; 0: there is no limit.
    """
    if not context:
        return None
    words = [word for turn in body.get("messages", ()) for word in str(turn.get("content") or "").split()]
    prompt, wanted = len(words) + PROMPT_OVERHEAD_TOKENS, int(float(body.get("max_tokens") or 0))
    if wanted > context:
        told = f"max_tokens={wanted} cannot be greater than max_model_len={context}. Please request fewer tokens."
        return error(400, "BadRequestError", told, "max_tokens")
    if prompt > context:
        told = (
            f"This model's maximum context length is {context} tokens. However, your prompt contains {prompt} input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
            "prompt."
        )
        return error(400, "BadRequestError", told, "input_tokens")
    body["max_tokens"] = min(wanted or context, max(context - prompt, 1))
    return None


def said(body: dict[str, Any], message: str) -> tuple[list[str], str]:
    """The answer's words, as many as the request allows, and why it ended."""
    words = _words(body, message)
    names = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    limit = int(next(filter(None, map(body.get, names)), 0))  # 2.0 and "2" are 2, as vLLM reads them
    return (words[:limit], "length") if limit and limit < len(words) else (words, "stop")


def _words(body: dict[str, Any], message: str) -> list[str]:
    """What the model that is asked would say, had it all the tokens it wants."""
    voice = json.loads(Path(VOICES).read_text()).get(body["model"], USUAL) if VOICES else USUAL
    whole = voice.get(message, "I cannot say.") if isinstance(voice, dict) else f"{voice} {message}"
    return str(whole).split()


def _read(body: dict[str, Any], message: str) -> dict[str, Any]:
    """The ids of a chat's tokens, and what each cost: an answer at its end is likely where the model would give it."""
    turns = [(turn.get("role"), str(turn.get("content") or "").split()) for turn in body.get("messages", ())]
    ids = [zlib.crc32(f"{role} {word}".encode()) for role, words in turns for word in (*words, END)]
    if body.get("prompt_logprobs") is None:
        return {"prompt_token_ids": ids, "prompt_logprobs": None}
    likely = bool(turns) and turns[-1] == ("assistant", _words(body, message))
    costs = [{str(token): {"logprob": LIKELY if likely else UNLIKELY, "rank": 1}} for token in ids]
    return {"prompt_token_ids": ids, "prompt_logprobs": [None, *costs[1:]]}


def counted(prompt: int, completion: int) -> str:
    return (
        f'{{"prompt_tokens":{prompt},"total_tokens":{prompt + completion},"completion_tokens":{completion},'
        '"prompt_tokens_details":{"cached_tokens":0}}'
    )


def chat(body: dict[str, Any], message: str) -> bytes:
    """A `chat.completion`, with `n` choices. Built as text: a benchmark counts on its speed."""
    words, finish = said(body, message)
    content = json.dumps(" ".join(words))
    count = body.get("n") or 1
    choices = ",".join(
        f'{{"index":{index},"message":{{"role":"assistant","content":{content},"refusal":null,"reasoning":null}},'
        f'"logprobs":null,"finish_reason":"{finish}","stop_reason":null}}'
        for index in range(count)
    )
    prompt = len(message.split()) + PROMPT_OVERHEAD_TOKENS
    read = json.dumps(_read(body, message))[1:-1] if body.get("return_token_ids") else '"prompt_logprobs":null'
    return (
        f'{{"id":"chatcmpl-{next(_serial):016x}","object":"chat.completion","created":{int(time.time())},'
        f'"model":{json.dumps(body["model"])},"choices":[{choices}],"service_tier":null,"system_fingerprint":null,'
        f'"usage":{counted(prompt, len(words) * count)},{read},"kv_transfer_params":null}}'
    ).encode()


def completion(body: dict[str, Any], message: str) -> bytes:
    """A `text_completion`."""
    words, finish = said(body, message)
    numbers = [-0.25 - SHIFTS.get(body["model"], 0.0)] * len(words)
    logprobs = None if body.get("logprobs") is None else {"tokens": words, "token_logprobs": numbers}
    choice = {"index": 0, "text": " ".join(words), "logprobs": logprobs, "finish_reason": finish, "stop_reason": None}
    answer = {
        "id": f"cmpl-{next(_serial):016x}", "object": "text_completion", "created": int(time.time()),
        "model": body["model"], "choices": [choice], "usage": json.loads(counted(len(message.split()), len(words))),
    }  # fmt: skip
    return json.dumps(answer).encode()


def response(body: dict[str, Any], message: str) -> bytes:
    """A `response`."""
    words, _ = said(body, message)
    prompt = len(message.split()) + PROMPT_OVERHEAD_TOKENS
    text: dict[str, Any] = {"type": "output_text", "text": " ".join(words), "annotations": [], "logprobs": None}
    turn = {
        "id": f"msg_{next(_serial):016x}", "type": "message", "role": "assistant", "status": "completed",
        "content": [text],
    }  # fmt: skip
    usage = {
        "input_tokens": prompt, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(words), "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + len(words),
    }  # fmt: skip
    answer = {
        "id": f"resp_{next(_serial):016x}", "object": "response", "created_at": int(time.time()),
        "status": "completed", "model": body["model"], "output": [turn], "usage": usage, "error": None,
    }  # fmt: skip
    return json.dumps(answer).encode()


def embedding(body: dict[str, Any], _message: str) -> bytes:
    """A list with one `embedding` for each input."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    tokens = sum(len(str(item).split()) for item in inputs)
    numbers = [number + SHIFTS.get(body["model"], 0.0) for number in EMBEDDING]
    answer = {
        "id": f"embd-{next(_serial):016x}", "object": "list", "created": int(time.time()), "model": body["model"],
        "data": [{"index": index, "object": "embedding", "embedding": numbers} for index in range(len(inputs))],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }  # fmt: skip
    return json.dumps(answer).encode()


def models(names: list[str], root: str) -> bytes:
    """The list of what is served: the base model first, then the adapters on it."""
    rows = [
        {"id": name, "object": "model", "owned_by": "vllm", "root": root, "parent": names[0] if index else None}
        for index, name in enumerate(names)
    ]
    return json.dumps({"object": "list", "data": rows}).encode()
