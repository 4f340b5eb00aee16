"""A key that an object has twice is found, however it is written; texts that only look so are none."""

import json
import random

import msgspec
import pytest

from apps.conversations import json_text
from apps.conversations.errors import RowError


def test_it_works() -> None:
    with pytest.raises(RowError, match=r"The key 'a' stands twice in one object.*remove one") as raised:
        json_text.decoded(b'{"a": 1, "a": 2}')
    assert raised.value.code == "duplicate_key"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"b":[{"c":1,"c":1}]}',
        b'{"a" :1,"a" :2}',
        b'{"a"\t:1,"a":2}',
        b'{"a"\n:1,\n"a"\r\n:2}',
        b'{"\\u0061":1,"a":2}',
        b'{"a":"\\u0022:","b":1,"b":2}',
        b'{"a\\u0022":1,"a\\"":2}',
        b'{"":1,"":2}',
        b'[{"a":1},{"a":1,"a":2}]',
        b'{"m":"he said \\":","m":"x"}',
        '{"é":1,"\\u00e9":2}'.encode(),
        b'{"a":{},"a":{"a":1}}',
        b'{"a":"\\u003a","a":2}',
        b'{"a":"::","a":"\\u003A\\u003A","b":"\\u003A\\u003A\\u003A"}',
    ],
)
def test_a_key_that_stands_twice(raw: bytes) -> None:
    with pytest.raises(RowError, match="stands twice"):
        json_text.decoded(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"\\":","b":" : ","c":"\\u0022:"}',
        b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}',
        b'{"a\\\\":"\\\\","b":1}',
        b'{"a" : 1e300, "b" : 123456789012345678901234567890}',
        b'"a"',
        b"1",
        b"null",
        b'{"a":"{\\"b\\":1,\\"b\\":2}"}',
    ],
)
def test_texts_that_look_so(raw: bytes) -> None:
    assert json_text.decoded(raw) == msgspec.json.decode(raw)


def test_whatever_comes() -> None:
    """Generated objects, with and without a key that is written twice, in several styles."""
    chance = random.Random(7)
    pieces = ['"', ":", "\\u003a", '":', "\\", " :", "a", "é", "\\u0022:", "\n", "{", "}"]

    def text() -> str:
        return "".join(chance.choices(pieces, k=chance.randint(0, 6)))

    def written(depth: int, spaces: str) -> str:
        kind = chance.choice(["object", "object", "list", "text", "number"]) if depth else "text"
        if kind == "list":
            return f"[{','.join(written(depth - 1, spaces) for _ in range(3))}]"
        if kind != "object":
            return json.dumps(text(), ensure_ascii=chance.random() < 0.5) if kind == "text" else "1.5"
        names = {text() for _ in range(4)}
        return "{" + ",".join(f"{json.dumps(name)}{spaces}:{written(depth - 1, spaces)}" for name in names) + "}"

    for _ in range(300):
        spaces = chance.choice(["", "", " ", "\t", "\n"])
        once = f'{{"x":{written(3, spaces)},"y":{written(3, spaces)}}}'
        assert json_text.decoded(once.encode()) == json.loads(once)
        name = json.dumps(text())
        twice = f'{{"x":{written(2, spaces)},"y":{{{name}{spaces}:1,"z":{written(2, spaces)},{name}:2}}}}'
        with pytest.raises(RowError):
            json_text.decoded(twice.encode())
