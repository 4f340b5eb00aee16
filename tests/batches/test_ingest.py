"""Reading an input file: every kind of bad line has its code and its number."""

import io
import json
from typing import Any

import pytest

from apps.batches.ingest import MAX_ERRORS, Limits, Line, LineError, Reader

LIMITS = Limits(requests=100, line_bytes=2_000, embedding_inputs=10, custom_id=1_024)
CHAT = "/v1/chat/completions"


def request(number: int = 1, /, *, endpoint: str = CHAT, **body: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | body
    return {"custom_id": f"r-{number}", "method": "POST", "url": endpoint, "body": body}


def read(*lines: dict[str, Any] | bytes | str, endpoint: str = CHAT) -> tuple[list[Line], list[LineError], Reader]:
    raw = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    reader = Reader(io.BytesIO(raw), endpoint, LIMITS)
    return list(reader.lines()), reader.errors, reader


def only_error(*lines: dict[str, Any] | bytes, endpoint: str = CHAT) -> LineError:
    _, errors, _ = read(*lines, endpoint=endpoint)
    assert len(errors) == 1, errors
    return errors[0]


def test_it_works() -> None:
    lines, errors, reader = read(request(1), request(2))
    assert errors == []
    assert [(line.number, line.custom_id) for line in lines] == [(1, "r-1"), (2, "r-2")]
    assert json.loads(lines[0].body) == request(1)["body"]
    assert (reader.model, reader.count) == ("m", 2)


def test_it_passes_over_blank_lines_and_counts_them_in_line_numbers() -> None:
    lines, errors, _ = read(request(1), b"", b"   ", request(2), b"")
    assert errors == []
    assert [line.number for line in lines] == [1, 4]


def test_it_keeps_bodies_to_the_byte() -> None:
    body = b'{"model": "m",  "vllm_xargs":{"x":[1, 2.50,"\\u00e9\\ud83d\\ude00"]}}'
    lines, _, _ = read(b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":%s}' % body)
    assert lines[0].body.encode() == body


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"not json", "invalid_json_line", None),
        (b'{"custom_id": "a"', "invalid_json_line", None),
        (b'{"custom_id":"a\xff"}', "invalid_json_line", None),
        (b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", "missing_required_parameter", "custom_id"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","n":"\x00"}}',
         "invalid_json_line", None),
        (b'{"custom_id":"\\ud83d"}', "invalid_json_line", None),
        (b'["a list"]', "invalid_request", None),
        ({"custom_id": "a", "method": "POST", "url": CHAT}, "missing_required_parameter", "body"),
        ({"method": "POST", "url": CHAT, "body": {}}, "missing_required_parameter", "custom_id"),
        (request() | {"custom_id": 7}, "invalid_request", "custom_id"),
        (request() | {"custom_id": ""}, "invalid_request", "custom_id"),
        (request() | {"custom_id": "x" * 1_025}, "invalid_request", "custom_id"),
        (request() | {"custom_id": "a\0b"}, "invalid_request", "custom_id"),
        (request() | {"method": "GET"}, "invalid_request", "method"),
        (request() | {"url": "/v1/embeddings"}, "invalid_url", "url"),
        (request() | {"body": {"messages": []}}, "missing_required_parameter", "body.model"),
        (request() | {"body": "text"}, "invalid_request", "body"),
        (request() | {"body": {"model": 7, "n": 1_000}}, "invalid_request", "body.model"),
        (request() | {"body": {"n": 1_000}}, "missing_required_parameter", "body.model"),
        (request(pad="x" * 3_000), "line_too_long", None),
    ],
)  # fmt: skip
def test_it_rejects_a_bad_line(line: dict[str, Any] | bytes, code: str, param: str | None) -> None:
    error = only_error(request(1), line)
    assert (error.code, error.line, error.param) == (code, 2, param)
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"stream": True}, "streaming_unsupported", "stream"),
        ({"stream": "yes"}, "streaming_unsupported", "stream"),
        ({"n": 129}, "invalid_request", "n"),
        ({"n": "129"}, "invalid_request", "n"),
        ({"n": -1}, "invalid_request", "n"),
        ({"max_tokns": 5}, "unknown_parameter", "max_tokns"),
        ({"extra_body": {"top_k": 5}}, "unknown_parameter", "extra_body"),
        ({"": 5}, "unknown_parameter", ""),
        ({"priority": 5}, "invalid_request", "priority"),
    ],
)
def test_it_refuses_a_body_and_lets_the_other_lines_run(body: dict[str, Any], code: str, field: str) -> None:
    lines, errors, reader = read(request(1), request(2, **body), request(3))
    assert errors == []
    assert [line.number for line in lines if not line.refusal] == [1, 3]
    refusal = lines[1].refusal
    assert refusal
    assert (refusal.code, refusal.field, lines[1].custom_id) == (code, field, "r-2")
    assert reader.count == 3


@pytest.mark.parametrize("body", [{"max_tokens": 2.0}, {"max_tokens": "2"}, {"logit_bias": {"5": "1.5"}}, {"n": 9}])
def test_it_takes_what_the_engine_takes(body: dict[str, Any]) -> None:
    lines, errors, _ = read(request(**body))
    assert errors == []
    assert (lines[0].refusal, json.loads(lines[0].body)) == (None, request(**body)["body"])


def test_a_line_that_only_the_engines_parser_reads_fails_nobody_else() -> None:
    odd = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":"\\ud83d"}}'
    lines, errors, _ = read(odd, request(2))
    assert (len(lines), errors) == (2, [])


def test_it_gives_legacy_names_their_modern_form() -> None:
    lines, _, _ = read(request(guided_json={"type": "object"}, store=True))
    assert json.loads(lines[0].body) == request(structured_outputs={"json": {"type": "object"}})["body"]


def test_a_long_custom_id_is_told_its_length() -> None:
    assert read(request() | {"custom_id": "x" * 1_024})[1] == []
    assert "1,024" in (message := only_error(request() | {"custom_id": "x" * 1_100}).message)
    assert "1,100" in message


def test_it_notes_names_that_the_engine_will_pass_over(settings: Any) -> None:
    settings.REQUEST_UNKNOWN_FIELDS = "warn"
    lines, errors, reader = read(request(1, top_kk=5), request(2))
    assert (len(lines), errors, [line.refusal for line in lines]) == (2, [], [None, None])
    assert [(note.line, note.code) for note in reader.ignored] == [(1, "unknown_parameter")]
    assert "Did you mean top_k?" in reader.ignored[0].message


@pytest.mark.parametrize(
    "start", [b"\xff\xfe{\x00", b"\xfe\xff\x00{", b"\xef\xbb\xbf{}", b"\x1f\x8b\x08", b"PK\x03\x04"]
)
def test_it_rejects_another_encoding_with_one_sentence(start: bytes) -> None:
    error = only_error(start, b"more", b"lines")
    assert (error.code, error.line) == ("invalid_encoding", 1)


def test_it_rejects_nesting_that_no_parser_survives() -> None:
    deep = b'{"custom_id":"a","method":"POST","url":"%s","body":{"model":"m","x":%s}}' % (
        CHAT.encode(), b"[" * 200_000 + b"]" * 200_000)  # fmt: skip
    reader = Reader(io.BytesIO(deep), CHAT, Limits(requests=10, line_bytes=10**6, embedding_inputs=1, custom_id=64))
    assert list(reader.lines()) == []
    assert [error.code for error in reader.errors] == ["invalid_json_line"]


def test_it_rejects_two_models() -> None:
    error = only_error(request(1), request(2, model="other"))
    assert (error.code, error.line, error.param) == ("mismatched_model", 2, "body.model")


def test_it_rejects_an_empty_file() -> None:
    assert only_error(b"\n\n").code == "empty_file"


def test_it_rejects_too_many_requests_once() -> None:
    error = only_error(*[request(number) for number in range(150)])
    assert (error.code, error.line) == ("too_many_tasks", 101)


def test_it_rejects_too_many_embedding_inputs() -> None:
    lines = [request(number, endpoint="/v1/embeddings", input=["a"] * 6) for number in range(2)]
    error = only_error(*lines, endpoint="/v1/embeddings")
    assert (error.code, error.line, error.param) == ("too_many_tasks", 2, "body.input")


def test_it_collects_errors_and_goes_on() -> None:
    lines, errors, reader = read(b"x", request(1), b"y", request(3))
    assert [line.number for line in lines] == [2, 4]
    assert [error.line for error in errors] == [1, 3]
    assert reader.model_line == 2


def test_it_stops_at_a_hundred_errors() -> None:
    reader = Reader(
        io.BytesIO(b"x\n" * 5_000), CHAT, Limits(requests=10_000, line_bytes=99, embedding_inputs=1, custom_id=64)
    )
    assert list(reader.lines()) == []
    assert len(reader.errors) == MAX_ERRORS
