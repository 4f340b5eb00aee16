"""The stock client against the real vLLM and against the site in front of it: the same, field by field."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from django.conf import settings

from apps.models.engines.engine import UnixHTTPConnection
from batchserver.embedded import run_dir
from tests.stack.live import LiveStack

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct"
EMBEDDER = "embedder"
# An engine that is behind joins a stream's tokens to one chunk, and computes two prompts apart, which rounds otherwise.
TRIES = 10
VOLATILE = ("id", "item_id", "created", "created_at", "request_id", "call_id")
CAST = """
from pathlib import Path
from apps.accounts.services import create_api_key, create_project
from apps.models.services import register_model
model = register_model(name={model!r}, path=Path({path!r}))
model.engine_settings = {{"tool_call_parser": "hermes"}}
model.save()
register_model(name={embedder!r}, path=Path({path!r}), runner="pooling")
print("KEY", create_api_key(project=create_project(name="ours"), name="test")[1])
"""
QUESTION = [{"role": "user", "content": "Name the capital of France."}]
FIXED = {"model": MODEL, "temperature": 0, "seed": 7}
CHAT = {**FIXED, "messages": QUESTION, "max_tokens": 12}
TEXT = {**FIXED, "prompt": "The capital of France is", "max_tokens": 12}
ANSWER = {"model": MODEL, "temperature": 0, "input": "Name the capital of France.", "max_output_tokens": 12}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
STRUCTURED = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
USAGE = {"stream_options": {"include_usage": True}}

Call = Callable[[openai.OpenAI], Any]


def chat(**more: Any) -> Call:
    return lambda client: client.chat.completions.create(**{**CHAT, **more})


def complete(**more: Any) -> Call:
    return lambda client: client.completions.create(**{**TEXT, **more})


def respond(**more: Any) -> Call:
    return lambda client: client.responses.create(**{**ANSWER, **more})


CALLS: dict[str, Call] = {
    "chat": chat(),
    "chat with a system prompt": chat(messages=[{"role": "system", "content": "Be brief."}, *QUESTION]),
    "chat, several choices": chat(n=3, temperature=0.8),
    "chat with logprobs": chat(logprobs=True, top_logprobs=3),
    "chat with a tool": chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look_up"}}),
    "chat with a tool, streamed": chat(
        tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look_up"}}, stream=True
    ),
    "chat that may use a tool": chat(tools=[TOOL]),
    "chat with a schema": chat(response_format=STRUCTURED),
    "chat with stop": chat(stop=["Paris"]),
    "chat with vLLM's own parameters": chat(extra_body={"top_k": 5, "repetition_penalty": 1.1, "min_tokens": 3}),
    "chat, streamed": chat(stream=True),
    "chat, streamed with usage": chat(stream=True, **USAGE),
    "chat, streamed with logprobs": chat(stream=True, logprobs=True, top_logprobs=2),
    "chat, streamed, several choices": chat(stream=True, n=2, temperature=0.8),
    "completion": complete(),
    "completion with logprobs and echo": complete(logprobs=2, echo=True),
    "completion of two": complete(prompt=["One, two,", "Red, green,"]),
    "completion, streamed": complete(stream=True),
    "completion, streamed with usage": complete(stream=True, **USAGE),
    "response": respond(),
    "response, streamed": respond(stream=True),
}
ERRORS: dict[str, Call] = {
    "a temperature out of range": chat(temperature=-1),
    "a parameter that is none": chat(top_p="x"),
    "no messages": chat(messages=[]),
    "a context that is too long": chat(messages=[{"role": "user", "content": "word " * 20_000}]),
    "the same, streamed": chat(messages=[{"role": "user", "content": "word " * 20_000}], stream=True),
    "a schema that is none": chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": 3}}),
    "a response in the background": respond(background=True),
}


@dataclass(frozen=True)
class Served:
    """The site, and the engines behind it."""

    stack: LiveStack
    site: openai.OpenAI

    def bare(self, model: str) -> openai.OpenAI:
        """A client of the engine itself, which must run."""
        transport = httpx2.HTTPTransport(uds=str(self.socket(model)))
        http = openai.DefaultHttpxClient(transport=transport)
        return openai.OpenAI(base_url="http://engine/v1", api_key="none", http_client=http, max_retries=0)

    def socket(self, model: str) -> Path:
        """Raises ValueError unless one engine runs."""
        (socket,) = run_dir(self.stack.var).glob("slot-*/**/engine.sock")
        return socket

    def running(self) -> float:
        """Requests that the engine computes, or has queued."""
        connection = UnixHTTPConnection(self.socket(MODEL), timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        gauges = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
        return sum(float(line.split()[-1]) for line in lines if line.startswith(gauges))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = settings.BASE_DIR / "var/models" / MODEL
    with LiveStack(tmp_path_factory.mktemp("interactive"), env={"GPU_SLOTS": "cpu"}) as stack:
        made = stack.manage("shell", "-c", CAST.format(model=MODEL, embedder=EMBEDDER, path=str(path)))
        key = next(line.split()[1] for line in made.stdout.splitlines() if line.startswith("KEY"))
        client = openai.OpenAI(base_url=stack.base_url, api_key=key, max_retries=0, timeout=240)
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
        yield Served(stack, client)


def told(call: Call, client: openai.OpenAI) -> Any:
    """All that a call gives: an answer, a list of chunks, or an error's status and body."""
    try:
        answer = call(client)
        if isinstance(answer, openai.Stream):
            chunks = [masked(chunk.model_dump()) for chunk in answer]
            return sorted(chunks, key=_choice)  # choices take turns as it happens
        return masked(answer.model_dump())
    except openai.APIStatusError as error:
        return error.status_code, error.body


def _choice(chunk: Any) -> int:
    """The number of the choice that a chunk goes on with; events without any keep their order at the end."""
    return int(chunk["choices"][0]["index"]) if chunk.get("choices") else 1_000


def masked(value: Any) -> Any:
    """Without what differs between two answers of the same engine."""
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items() if key not in VOLATILE}
    return [masked(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", CALLS)
def test_it_works(served: Served, name: str) -> None:
    bare = served.bare(MODEL)
    told(CALLS[name], bare)  # from here on the prompt is in the prefix cache
    for _ in range(TRIES):
        expected = told(CALLS[name], bare)
        assert not isinstance(expected, tuple), expected
        ours = told(CALLS[name], served.site)
        if ours == expected:
            break
    assert ours == expected


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_the_engine_s_in_openai_s_shape(served: Served, name: str) -> None:
    """The same status; `code` a word or null; and nothing of how the engine is started."""
    status, _ = told(ERRORS[name], served.bare(MODEL))
    assert status >= 400
    ours, error = told(ERRORS[name], served.site)
    assert ours == status
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] is None or not str(error["code"]).isdecimal()
    assert not re.search("--[a-z]|VLLM_|vllm", error["message"]), error["message"]


def test_a_client_s_timeout_ends_the_generation(served: Served) -> None:
    endless = chat(max_tokens=8_000, extra_body={"ignore_eos": True})
    for client in (served.bare(MODEL), served.site):
        with pytest.raises(openai.APITimeoutError):
            endless(client.with_options(timeout=1))
        assert _soon_idle(served)


def test_who_leaves_a_stream_ends_the_generation(served: Served) -> None:
    stream = chat(max_tokens=8_000, extra_body={"ignore_eos": True}, stream=True)(served.site)
    for _ in range(5):
        next(stream)
    assert served.running() == 1
    stream.close()
    assert _soon_idle(served)


def _soon_idle(served: Served) -> bool:
    deadline = time.monotonic() + 5
    while served.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    return served.running() == 0


def test_every_route_takes_the_priority_of_batches(served: Served) -> None:
    after_people = {"extra_body": {"priority": 1}}
    for call in (chat(**after_people), complete(**after_people), respond(**after_people)):
        assert not isinstance(told(call, served.bare(MODEL)), tuple)


def test_embeddings(served: Served) -> None:
    """The last one: the engine is swapped for it."""

    def embed(client: openai.OpenAI, **more: Any) -> Any:
        return client.embeddings.create(model=EMBEDDER, input=["Paris", "Rome"], **more)

    ours = told(embed, served.site)
    bare = served.bare(EMBEDDER)
    assert ours == told(embed, bare)
    assert told(lambda client: embed(client, encoding_format="float"), served.site) == told(
        lambda client: embed(client, encoding_format="float"), bare
    )
    assert not isinstance(told(lambda client: embed(client, extra_body={"priority": 1}), bare), tuple)
    wrong = told(lambda client: client.embeddings.create(model=MODEL, input="x"), served.site)
    assert wrong[0] == 400
