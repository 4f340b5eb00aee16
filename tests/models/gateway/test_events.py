import json
from typing import Any

import pytest

from apps.models.gateway.events import Events
from apps.models.tokens import Tokens
from tests.models.gateway.cast import parsed

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def choice(index: int, text: str, finish: str | None = None) -> bytes:
    return event(id="a", choices=[{"index": index, "text": text, "finish_reason": finish}])


WORDS = [choice(0, 'a "usage" and "finish_reason":"stop"'), choice(1, "é\n\ndata: x"), choice(0, "b", "stop")]
LAST = [choice(1, "c", "length"), event(id="a", choices=[], usage=USAGE, system_fingerprint="f")]
DONE = b"data: [DONE]\n\n"


def through(chunks: list[bytes], *, hide: bool) -> tuple[bytes, Events]:
    events = Events(hide_usage=hide)
    passed = b"".join(events.take(chunk) for chunk in chunks)
    return passed + events.rest(), events


def test_it_works() -> None:
    """The usage is read and taken out; its fingerprint is where it is without."""
    passed, events = through([*WORDS, *LAST, DONE], hide=True)
    assert events.tokens == Tokens(input=5, output=2)
    assert b"prompt_tokens" not in passed
    ends = [event for event in parsed(passed) if event != "[DONE]" and event["choices"][0]["finish_reason"]]
    assert [end["system_fingerprint"] for end in ends] == ["f", "f"]
    assert len(parsed(passed)) == 5


def test_it_passes_everything_on_when_the_client_asked_for_usage() -> None:
    stream = [*WORDS, *LAST, DONE]
    passed, events = through(stream, hide=False)
    assert passed == b"".join(stream)
    assert events.tokens == Tokens(input=5, output=2)


@pytest.mark.parametrize("hide", [True, False])
def test_it_does_not_matter_how_the_bytes_are_cut(hide: bool) -> None:
    stream = b"".join([*WORDS, *LAST, DONE])
    whole, _ = through([stream], hide=hide)
    for size in (1, 2, 3, 7, 50, 200):
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert through(pieces, hide=hide)[0] == whole


def test_words_do_not_wait() -> None:
    events = Events(hide_usage=True)
    assert [events.take(word) for word in WORDS] == [WORDS[0], WORDS[1], b""]
    assert events.take(choice(1, "more")) == choice(1, "more")  # the other choice goes on


def test_nothing_is_held_back_when_no_usage_comes() -> None:
    assert through([*WORDS, DONE], hide=True)[0] == b"".join([*WORDS, DONE])


@pytest.mark.parametrize("hide", [True, False])
def test_an_error_is_translated_and_nothing_held_back(hide: bool) -> None:
    told = through([*WORDS, event(error={"message": "It broke.", "code": 500}), DONE], hide=hide)[0]
    error = {"message": "It broke.", "type": "server_error", "param": None, "code": None}
    assert told == b"".join([*WORDS, b"data: " + json.dumps({"error": error}).encode() + b"\n\n", DONE])


def test_nothing_is_held_back_when_the_stream_breaks_off() -> None:
    cut = b'data: {"choices":[{"text'
    assert through([*WORDS, cut], hide=True)[0] == b"".join([*WORDS, cut])


def test_it_reads_responses() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 1}}
    stream = [
        b"event: response.created\n" + event(type="response.created", response={"usage": None}),
        b"event: response.completed\n" + event(type="response.completed", response={"usage": usage}),
    ]
    passed, events = through(stream, hide=False)
    assert passed == b"".join(stream)
    assert events.tokens == Tokens(input=3, output=4, reasoning=1)


@pytest.mark.parametrize(
    "garbage", [b'data: {"usage": 3}\n\n', b'data: "usage"\n\n', b'data: {"usage"\n\n', b'"usage"\n\n']
)
def test_it_survives_garbage(garbage: bytes) -> None:
    passed, events = through([garbage], hide=True)
    assert passed == garbage
    assert events.tokens is None


def test_it_counts_events() -> None:
    assert through([*WORDS, *LAST, DONE], hide=True)[1].count == 6
    assert through([*WORDS, *LAST, DONE], hide=False)[1].count == 6
