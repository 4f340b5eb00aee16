import json

import pytest

from apps.core.json_lines import escape_separators, escape_separators_in_bytes

SPLIT_AT = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Every character at which `str.splitlines` ends a line."""


def test_it_works() -> None:
    values = [{"a": f"one{char}two", f"key{char}": ["\u2019 é 模型 🙂", char]} for char in SPLIT_AT]
    raw = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    text = escape_separators_in_bytes(raw.encode())
    assert text == escape_separators(raw).encode()
    lines = text.decode().splitlines()
    assert [json.loads(line) for line in lines] == values
    assert text.count(b"\n") == len(values)


def test_a_carriage_return_between_tokens_ends_no_line() -> None:
    text = escape_separators_in_bytes(b'{"a":\r[1,\r2], "b": "\\r"}\n')
    assert len(text.splitlines()) == 1
    assert json.loads(text) == {"a": [1, 2], "b": "\r"}


@pytest.mark.parametrize("text", [b"", b'{"a": "plain"}\n', '{"a": "é\u2019模🙂\u2027\u202a\x84\x86"}\n'.encode()])
def test_it_leaves_the_rest_alone(text: bytes) -> None:
    assert escape_separators_in_bytes(text) is text


def test_it_knows_all_characters_that_end_a_line() -> None:
    breaks = {char for char in map(chr, range(0x110000)) if len(f"a{char}b".splitlines()) > 1}
    assert breaks == set(SPLIT_AT)
