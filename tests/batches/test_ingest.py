"""Reading an input file: every kind of bad line has its code and its number."""

import io
import json
from typing import Any

import pytest

from apps.batches.ingest import MAX_ERRORS, Limits, Line, LineError, Reader

LIMITS = Limits(requests=100, line_bytes=2_000, embedding_inputs=10)
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
    body = b'{"model": "m",  "x":[1, 2.50,"\\u00e9\\ud83d\\ude00"]}'
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
        (request() | {"custom_id": "x" * 65}, "invalid_request", "custom_id"),
        (request() | {"custom_id": "a\0b"}, "invalid_request", "custom_id"),
        (request() | {"method": "GET"}, "invalid_request", "method"),
        (request() | {"url": "/v1/embeddings"}, "invalid_url", "url"),
        (request() | {"body": {"messages": []}}, "missing_required_parameter", "body.model"),
        (request() | {"body": "text"}, "invalid_request", "body"),
        (request(stream=True), "streaming_unsupported", "body.stream"),
        (request(n=100), "invalid_request", "body.n"),
        (request(n=-1), "invalid_request", "body.n"),
        (request(n="two"), "invalid_request", "body.n"),
        (request(pad="x" * 3_000), "line_too_long", None),
    ],
)  # fmt: skip
def test_it_rejects_a_bad_line(line: dict[str, Any] | bytes, code: str, param: str | None) -> None:
    error = only_error(request(1), line)
    assert (error.code, error.line, error.param) == (code, 2, param)
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    "start", [b"\xff\xfe{\x00", b"\xfe\xff\x00{", b"\xef\xbb\xbf{}", b"\x1f\x8b\x08", b"PK\x03\x04"]
)
def test_it_rejects_another_encoding_with_one_sentence(start: bytes) -> None:
    error = only_error(start, b"more", b"lines")
    assert (error.code, error.line) == ("invalid_encoding", 1)


def test_it_rejects_nesting_that_no_parser_survives() -> None:
    deep = b'{"custom_id":"a","method":"POST","url":"%s","body":{"model":"m","x":%s}}' % (
        CHAT.encode(), b"[" * 200_000 + b"]" * 200_000)  # fmt: skip
    reader = Reader(io.BytesIO(deep), CHAT, Limits(requests=10, line_bytes=10**6, embedding_inputs=1))
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
    reader = Reader(io.BytesIO(b"x\n" * 5_000), CHAT, Limits(requests=10_000, line_bytes=99, embedding_inputs=1))
    assert list(reader.lines()) == []
    assert len(reader.errors) == MAX_ERRORS
