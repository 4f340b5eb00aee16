"""What is looked for in a body is found however it is written, and no body ends in an error of ours."""

import pytest

from apps.models.gateway.tokens import find

TOKENS = {"<é|extra>": 70}


@pytest.mark.parametrize(
    "body",
    [
        '{"prompt": "a <é|extra>"}'.encode(),
        rb'{"prompt": "a <\u00e9|extra>", "temperature": NaN}',
        rb'{"prompt": "\ud800 <\u00e9|extra>"}',
        b'{"prompt": [[1, 70]]}',
    ],
)
def test_it_works(body: bytes) -> None:
    assert find(body, TOKENS) == "<é|extra>"


@pytest.mark.parametrize("body", [b'{"prompt": "extra"}', b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"])
def test_it_finds_nothing(body: bytes) -> None:
    assert find(body, TOKENS) == ""
