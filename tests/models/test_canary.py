"""What tells an engine that woke up wrong from one that woke up well."""

import json

import pytest

from apps.models.engines.canary import Canary, read, request

SONG = Canary((" five", ","), (-0.01, -0.2))


def answer(tokens: list[str], logprobs: list[float]) -> bytes:
    return json.dumps({"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": logprobs}}]}).encode()


def test_it_works() -> None:
    assert read("generate", answer([" five", ","], [-0.01, -0.2])) == SONG
    assert read("pooling", b'{"data": [{"embedding": [0.5, 1]}]}') == Canary((), (0.5, 1.0))
    assert SONG.difference(Canary((" five", ","), (-0.0101, -0.21))) == ""  # rounding
    assert request("generate")[1]["temperature"] == 0


@pytest.mark.parametrize(
    "other",
    [
        Canary(("!!", "!!"), (-0.01, -0.2)),
        Canary((" five", ","), (-0.01, -0.9)),
        Canary((" five", ","), (-0.01, float("nan"))),
        Canary((" five", ","), (-0.01,)),
        None,
    ],
)
def test_it_rejects_garbage(other: Canary | None) -> None:
    assert "canary" in SONG.difference(other)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"choices": [{"logprobs": null}]}', b'{"data": []}'])
def test_it_rejects_what_cannot_be_compared(raw: bytes) -> None:
    assert read("generate", raw) is None
    assert read("pooling", raw) is None
