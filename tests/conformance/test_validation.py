"""Errors of input files: every code, with its line; all of them at once, and nothing is run."""

import json
from typing import Any

import pytest
from openai.types.batch_error import BatchError

from tests.conformance.lines import CHAT, EMBEDDING_MODEL, Content, Line, chats, line
from tests.conformance.site import Site

pytestmark = pytest.mark.live
MB = 1024**2
DEEP = 100_000


def errors(site: Site, content: Content, url: str = CHAT) -> list[BatchError]:
    """What is wrong with this file. Nothing of it was kept."""
    before = site.belongings()[2]
    batch = site.run(content, url)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data
    assert site.belongings()[2] == before
    return batch.errors.data


def changed(number: int, **change: Any) -> Line:
    """A line with other fields; None leaves a field out."""
    merged = {**line(number), **change}
    return {key: value for key, value in merged.items() if value is not None}


def asking(number: int, **body: Any) -> Line:
    return line(number, **body)


GOOD = [line(number) for number in (101, 102)]
BAD: dict[str, tuple[Line | str | bytes, str, str | None]] = {
    "not JSON": ("{no", "invalid_json_line", None),
    "half a line": (json.dumps(line(1))[:40], "invalid_json_line", None),
    "two objects": (json.dumps(line(1)) + json.dumps(line(2)), "invalid_json_line", None),
    "a NUL byte": (b'{"custom_id": "a\0b"}', "invalid_json_line", None),
    "not UTF-8": (b'{"custom_id": "\xff\xfe"}', "invalid_json_line", None),
    "nested deeply": ("[" * DEEP + "]" * DEEP, "invalid_request", None),
    "a deep body": (json.dumps(line(1)).replace('"hello"', "[" * DEEP + "]" * DEEP), "invalid_json_line", None),
    "not an object": ("[1, 2]", "invalid_request", None),
    "a number": ("42", "invalid_request", None),
    "no custom_id": (changed(1, custom_id=None), "missing_required_parameter", "custom_id"),
    "no method": (changed(1, method=None), "missing_required_parameter", "method"),
    "no url": (changed(1, url=None), "missing_required_parameter", "url"),
    "no body": (changed(1, body=None), "missing_required_parameter", "body"),
    "no model": (changed(1, body={"messages": []}), "missing_required_parameter", "body.model"),
    "empty model": (asking(1, model=""), "missing_required_parameter", "body.model"),
    "custom_id a number": (changed(1, custom_id=7), "invalid_request", "custom_id"),
    "custom_id empty": (changed(1, custom_id=""), "invalid_request", "custom_id"),
    "custom_id too long": (changed(1, custom_id="x" * 1025), "invalid_request", "custom_id"),
    "custom_id with NUL": (changed(1, custom_id="a\0b"), "invalid_request", "custom_id"),
    "method GET": (changed(1, method="GET"), "invalid_request", "method"),
    "body a string": (changed(1, body="text"), "invalid_request", "body"),
    "model a number": (asking(1, model=7), "invalid_request", "body.model"),
    "another url": (changed(1, url="/v1/embeddings"), "invalid_url", "url"),
    "a full url": (changed(1, url="https://api.openai.com" + CHAT), "invalid_url", "url"),
    "another model": (asking(1, model=EMBEDDING_MODEL), "mismatched_model", "body.model"),
    "a duplicate": (line(101), "duplicate_custom_id", "custom_id"),
    "a 9 MB line": (asking(1, user="x" * (9 * MB)), "line_too_long", None),
}


BAD_BODIES: dict[str, dict[str, Any]] = {
    "stream": {"stream": True},
    "n": {"n": 1000},
    "max_tokens": {"max_tokens": -1},
    "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "y" * 70_000}}},
    "priority": {"priority": 1},
    "temprature": {"temprature": 0.5},
}


def test_a_bad_body_is_its_own_lines_error(site: Site) -> None:
    """The other lines are answered; each error is what the endpoint would have said."""
    bad = [asking(number, **body) for number, body in enumerate(BAD_BODIES.values(), 1)]
    batch = site.run([*GOOD, *bad])
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, len(bad))
    told = {}
    for text in site.client().files.content(batch.error_file_id or "").text.splitlines():
        entry = json.loads(text)
        assert entry["error"] is None
        assert entry["response"]["status_code"] == 400
        told[entry["custom_id"]] = entry["response"]["body"]["error"]["param"]
    assert told == {line["custom_id"]: param for line, param in zip(bad, BAD_BODIES, strict=True)}


@pytest.mark.parametrize("name", BAD)
def test_it_rejects_a_bad_line(site: Site, name: str) -> None:
    bad, code, param = BAD[name]
    (error,) = errors(site, [*GOOD, bad])
    assert (error.line, error.code, error.param) == (3, code, param)
    assert error.message
    assert len(error.message) < 300


def test_it_works(site: Site) -> None:
    """What looks odd and is right: blank lines, CRLF, no newline at the end, unknown keys, an id of 64 characters."""
    odd: list[Line | str] = [
        changed(1, custom_id="ä" * 64),
        "",
        changed(2, extra="key"),
        "   ",
        json.dumps(line(3)) + "\r",
    ]
    batch = site.run([*odd, line(4, "one\u2028two")])
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("completed", 4)
    unended = json.dumps(line(1)).encode()
    assert site.run(unended).status == "completed"


def test_not_json_on_line_seven(site: Site) -> None:
    content: list[Line | str | bytes] = [line(number) for number in range(1, 11)]
    content[6] = "this is not JSON"
    (error,) = errors(site, content)
    assert (error.code, error.line) == ("invalid_json_line", 7)
    assert (error.message or "").startswith("This line is not parseable as valid JSON")


def test_every_error_is_told_in_the_order_of_lines(site: Site) -> None:
    nowhere = [asking(number, model="nowhere") for number in (1, 2)]
    content: list[Line | str | bytes] = [
        "{",
        *nowhere,
        nowhere[0],
        "",
        changed(4, url="/v1/x"),
        line(5),
        changed(6, body=None),
        nowhere[1],
    ]
    assert [(error.line, error.code) for error in errors(site, content)] == [
        (1, "invalid_json_line"),
        (2, "model_not_found"),
        (4, "duplicate_custom_id"),
        (6, "invalid_url"),
        (7, "mismatched_model"),
        (8, "missing_required_parameter"),
        (9, "duplicate_custom_id"),
    ]


def test_every_duplicate_is_told(site: Site) -> None:
    found = errors(site, [line(1), line(2), line(1), line(2), line(1), line(3)])
    assert [(error.line, error.code) for error in found] == [(number, "duplicate_custom_id") for number in (3, 4, 5)]


def test_at_most_a_hundred_errors_are_told(site: Site) -> None:
    for bad, first in (("{", 3), (line(101), 3)):
        found = errors(site, [*GOOD, *[bad] * 150])
        assert [error.line for error in found] == list(range(first, first + 100))


@pytest.mark.parametrize("content", [b"\n", b"\n\r\n   \n\n"])
def test_a_file_without_requests(site: Site, content: bytes) -> None:
    (error,) = errors(site, content)
    assert (error.code, error.line) == ("empty_file", None)


def test_more_than_fifty_thousand_lines(site: Site) -> None:
    (error,) = errors(site, chats(*["x"] * 50_001))
    assert (error.code, error.line) == ("too_many_tasks", 50_001)
    assert "50,000" in (error.message or "")


def test_more_than_fifty_thousand_embeddings(site: Site) -> None:
    url = "/v1/embeddings"
    lines: list[Line | str | bytes] = [line(1, url=url, input=["x"] * 30_000), line(2, url=url, input=["x"] * 20_001)]
    (error,) = errors(site, lines, url)
    assert (error.code, error.line, error.param) == ("too_many_tasks", 2, "body.input")


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
        (b"\xef\xbb\xbf", "byte order mark"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x03\x04", "zip"),
    ],
)
def test_a_file_that_is_no_plain_utf8(site: Site, mark: bytes, words: str) -> None:
    codec = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(mark, "utf-8")
    content = mark + (json.dumps(line(1)) + "\n").encode(codec)
    (error,) = errors(site, content)
    assert (error.code, error.line) == ("invalid_encoding", 1)
    assert words in (error.message or "")


@pytest.mark.parametrize("text", ["nothing", "text-embedding"])
def test_a_model_that_is_not_there(site: Site, text: str) -> None:
    (error,) = errors(site, [asking(1, model=text), asking(2, model=text)])
    assert (error.code, error.line, error.param) == ("model_not_found", 1, "body.model")
    assert text in (error.message or "")


def test_a_model_that_the_key_may_not_use(site: Site) -> None:
    batch = site.run(chats("hello"), role="narrow")
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or []] == [("model_not_found", 1)]
    allowed = site.run([line(1, url="/v1/embeddings")], "/v1/embeddings", role="narrow")
    assert allowed.status == "completed"


def test_a_model_that_does_not_serve_the_endpoint(site: Site) -> None:
    (error,) = errors(site, [asking(1, model=EMBEDDING_MODEL)])
    assert (error.code, error.line, error.param) == ("invalid_request", 1, "body.model")
    assert "/v1/embeddings" in (error.message or "")


def test_an_input_file_that_was_deleted(site: Site) -> None:
    with site.work_held_up():
        started = site.start(chats("hello"))
        site.client().files.delete(started.input_file_id)
    batch = site.wait(started.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    told = [(error.code, error.line, error.param) for error in batch.errors.data or []]
    assert told == [("invalid_request", None, "input_file_id")]
