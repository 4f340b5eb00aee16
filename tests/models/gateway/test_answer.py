"""What clients get: the engine's answer as it is."""

import json
from typing import Any

import pytest

from apps.models.dialect import translated
from apps.models.gateway.ask import stream
from apps.models.models import Model
from tests.batches.lender import Lender
from tests.conftest import Tenant
from tests.models import engines
from tests.models.gateway.cast import CHAT, Asking, chat, in_database, parsed, show_engine

TEXTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "one two"}]},
    "/v1/completions": {"prompt": "one two"},
    "/v1/responses": {"input": "one two"},
}
VOLATILE = ("id", "created", "created_at")


def masked(value: Any) -> Any:
    """Without what differs between two answers to the same question."""
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items() if key not in VOLATILE}
    return [masked(item) for item in value] if isinstance(value, list) else value


async def test_it_works(asking: Asking, served: Model) -> None:
    answer = await asking.post(chat("Hello there"), x_request_id="mine")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["choices"][0]["message"]["content"] == "Answer to: Hello there"
    assert answer.headers["x-request-id"] == "mine"
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("path", TEXTS)
async def test_it_gives_the_engine_s_words(asking: Asking, served: Model, lender: Lender, path: str) -> None:
    body = {"model": "test-model", **TEXTS[path]}
    bare = await in_database(engines.post, lender.engine, path, body)
    answer = await asking.post(body, path)
    assert (answer.status, masked(answer.json)) == (bare[0], masked(bare[1]))


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}, {"stream_options": None}])
@pytest.mark.parametrize("path", TEXTS)
async def test_it_streams_the_engine_s_words(
    asking: Asking, served: Model, lender: Lender, path: str, options: dict[str, Any]
) -> None:
    """Whether the client asks for usage or not, it gets what the bare engine would have sent to it."""
    body = {"model": "test-model", "stream": True, **TEXTS[path], **options}
    bare = await in_database(engines.raw, lender.engine, path, body)
    answer = await asking.post(body, path)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert masked(answer.events) == masked(parsed(bare))
    assert len(answer.events) > 4


async def test_it_embeds(asking: Asking, transactional_db: None, tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = await in_database(Model.objects.create, name="test-model", path=str(tmp_path), runner=Model.Runner.POOLING)
    with Lender(tmp_path, runner="pooling") as lender:
        await in_database(show_engine, model, lender)
        answer = await asking.post({"model": "test-model", "input": ["a", "b"]}, "/v1/embeddings")
    assert len(answer.json["data"]) == 2


@pytest.mark.parametrize("marker", ["!400", "!500"])
async def test_it_passes_the_engine_s_errors_on(asking: Asking, served: Model, lender: Lender, marker: str) -> None:
    bare = await in_database(engines.post, lender.engine, CHAT, chat(marker))
    for streams in (True, False):
        answer = await asking.post(chat(marker, stream=streams))
        assert (answer.status, answer.json) == (bare[0], json.loads(translated(bare[0], json.dumps(bare[1]).encode())))
        assert (answer.code, answer.json["error"]["message"]) == (None, bare[1]["error"]["message"])
    assert len(lender.called()) == 3  # an engine that is well is not asked twice


async def test_it_says_which_names_the_engine_passes_over(asking: Asking, served: Model, settings: Any) -> None:
    settings.REQUEST_UNKNOWN_FIELDS = "warn"
    answer = await asking.post(chat("x", top_kk=5))
    assert answer.status == 200
    assert answer.headers["x-ignored-parameter"].endswith("supplied: top_kk. Did you mean top_k?")
    assert "x-ignored-parameter" not in (await asking.post(chat("x"))).headers
    broken = await asking.post(chat("x", **{"a\r\nb: c": 5}))  # no header of the client's own making
    assert broken.headers["x-ignored-parameter"] == r"Unrecognized request argument supplied: a\r\nb: c."


async def test_it_passes_on_where_the_vectors_lie(asking: Asking, served: Model, settings: Any) -> None:
    """vLLM's `encoding_format: bytes` answers with bytes, and with their places in a header."""
    answer = await asking.post(chat("!metadata"))
    assert answer.headers["metadata"] == '{"data":[]}'


async def test_the_first_token_does_not_wait_for_the_second(asking: Asking, served: Model) -> None:
    request = asking.start(chat("!pace:0.5 x", stream=True))
    start, first = await request.message(), await request.message()
    assert start["status"] == 200
    assert json.loads(first["body"].removeprefix(b"data: "))["choices"][0]["delta"]["role"] == "assistant"
    assert request.sent.empty()
    request.hang_up()
    await request.task


async def test_people_go_first(asking: Asking, served: Model, lender: Lender) -> None:
    """They have vLLM's own priority, 0; lines of batches come after it."""
    await asking.post(chat("x"))
    assert (lender.calls.parent / "priorities").read_text() == "0\n"


async def test_a_charset_and_letter_case_do_not_matter(asking: Asking, served: Model) -> None:
    answer = await asking.post(chat("x"), content_type="Application/JSON; charset=utf-8")
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions/", "/v1/chat", "/"])
async def test_other_routes_are_django_s(asking: Asking, path: str) -> None:
    assert (await asking.post({}, path)).status == 299


async def test_pages_ask_without_a_key(asking: Asking, served: Model, owner: Tenant) -> None:
    told = [part async for part in stream(project=owner.project, endpoint=CHAT, body=chat("Hello"))]
    assert (
        "".join(event["choices"][0]["delta"]["content"] for event in parsed(b"".join(told))[:-1]) == "Answer to: Hello"
    )


@pytest.mark.parametrize(("change", "code"), [({"model": "none"}, "model_not_found"), ({"n": 999}, "invalid_request")])
async def test_pages_get_errors_as_events(asking: Asking, owner: Tenant, change: dict[str, Any], code: str) -> None:
    told = [part async for part in stream(project=owner.project, endpoint=CHAT, body=chat("Hello") | change)]
    assert parsed(b"".join(told))[0]["error"]["code"] == code


async def test_pages_get_the_engine_s_errors_as_events(asking: Asking, served: Model, owner: Tenant) -> None:
    told = [part async for part in stream(project=owner.project, endpoint=CHAT, body=chat("!400"))]
    assert parsed(b"".join(told))[0]["error"]["message"] == "This request is marked !400."
