"""An engine's errors come out in OpenAI's envelope, with what an API user can change."""

import json
from typing import Any

import pytest

from apps.models import dialect

MISSING = (
    "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
    "'input': '<dict of 2 items>'}"
)
PARSING = (
    "2 validation errors:\n  {'type': 'int_parsing', 'loc': 'body.n', 'msg': 'Input should be a valid integer, unable"
    " to parse string as an integer', 'input': 'two'}\n  {'type': 'x', 'loc': 'body.y', 'msg': 'z'}"
)
RULE = (
    "1 validation error:\n  {'type': 'value_error', 'loc': 'body', 'msg': 'Value error, Stream options can only be"
    " defined when `stream=True`.', 'input': '<dict of 3 items>', 'ctx': {'error': ValueError('x')}}"
)


def told(status: int, answer: Any) -> dict[str, Any]:
    raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    error: dict[str, Any] = json.loads(dialect.translated(status, raw))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] is None or isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def vllm(status: int, message: str, param: str | None = None, kind: str = "BadRequestError") -> dict[str, Any]:
    return told(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def test_it_works() -> None:
    assert vllm(400, "temperature must be non-negative, got -1.0.", "temperature") == {
        "message": "temperature must be non-negative, got -1.0.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": None,
    }


@pytest.mark.parametrize(
    ("message", "param", "wanted"),
    [
        (
            MISSING, "body.messages",
            ("Missing required parameter: 'messages'.", "messages", "missing_required_parameter"),
        ),
        (PARSING, "body.n", ("Invalid value for 'n': Input should be a valid integer", "n", "invalid_type")),
        (
            RULE, "stream_options",
            ("Invalid value for 'stream_options': Stream options", "stream_options", "invalid_value"),
        ),
        (
            "This model's maximum context length is 512 tokens. However, you requested 900.", None,
            ("This model's maximum context length is 512", "messages", "context_length_exceeded"),
        ),
        (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', None,
            ("The model is served without a parser for tool calls.", "tools", "unsupported_parameter"),
        ),
        (
            "At most 1 image(s) may be provided in one prompt. Set `--limit-mm-per-prompt` to increase this limit.",
            None,
            ("At most 1 image(s) may be provided in one prompt. The engine", None, None),
        ),
        ("No grammar: [03:56:02] <path>:83: The parenthesis is not closed.", None, ("No grammar: The par", None, None)),
        ("Requests need --some-flag, or else.", None, ("The engine of this model is not set up", None, None)),
    ],
)  # fmt: skip
def test_it_says_what_the_sender_can_change(message: str, param: str | None, wanted: tuple[Any, ...]) -> None:
    error = vllm(400, message, param)
    assert error["message"].startswith(wanted[0])
    assert "--" not in error["message"]
    assert (error["param"], error["code"]) == wanted[1:]


@pytest.mark.parametrize(
    ("status", "answer", "kind", "message"),
    [
        (404, {"detail": "Not Found"}, "not_found_error", "Not Found"),
        (400, {"object": "error", "message": "no", "code": 40001}, "invalid_request_error", "no"),
        (400, {"error": "no"}, "invalid_request_error", "no"),
        (422, {"detail": [{"loc": ["n"]}]}, "invalid_request_error", '[{"loc": ["n"]}]'),
        (500, b"Internal Server Error", "server_error", "Internal Server Error"),
        (500, b"", "server_error", dialect.UNKNOWN),
        (500, b"\xff[" * 9_000, "server_error", None),
        (500, [], "server_error", dialect.UNKNOWN),
        (429, {"error": {"message": "busy", "code": 429}}, "rate_limit_error", "busy"),
    ],
)  # fmt: skip
def test_whatever_an_engine_says_has_the_envelope(status: int, answer: Any, kind: str, message: str | None) -> None:
    error = told(status, answer)
    assert error["type"] == kind
    assert message in (None, error["message"])


def test_an_error_within_a_stream_is_translated_too() -> None:
    event = b'data: {"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}'
    assert json.loads(dialect.translated_event(event).removeprefix(b"data: "))["error"] == {
        "message": "boom",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert dialect.translated_event(b'data: {"error"').startswith(b"data: {")
