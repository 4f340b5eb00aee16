import json
import time

import pytest

from apps.models.blanks import WARNING, with_warning


def answer(content: str, finish: str = "length") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return json.dumps({"id": "x", "choices": [choice], "usage": {}}, separators=(",", ":")).encode()


@pytest.mark.parametrize("blanks", [" " * 40, "\n" * 40, "\n\t " * 20])
def test_it_works(blanks: str) -> None:
    told = json.loads(with_warning(answer('{"a": "x\\" y",' + blanks)))
    assert told["warning"] == WARNING
    assert told["choices"][0]["message"]["content"].endswith(blanks)


@pytest.mark.parametrize(
    "whole",
    [
        answer('{"a":' + " " * 40, "stop"),
        answer('{"a": 1'),
        answer("a" + " " * 40 + "b"),
        answer("\\n" * 40),
        b"",
        b"[]",
    ],
)
def test_other_answers_stay_as_they_are(whole: bytes) -> None:
    assert with_warning(whole) == whole


def test_it_is_quick_whatever_the_text() -> None:
    hostile = answer(("\\" + " " * 31) * 20_000)
    began = time.perf_counter()
    assert with_warning(hostile) == hostile
    assert time.perf_counter() - began < 2
