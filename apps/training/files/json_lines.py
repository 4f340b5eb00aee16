"""A line of a training file as JSON: whatever cannot be read is told with a cure. Django-free."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from apps.conversations import json_text
from apps.conversations.errors import RowError

MAX_DEPTH = 64  # of lists and objects in each other
MARKS = {
    b"\xff\xfe": "It is UTF-16: save the file as UTF-8.",
    b"\xfe\xff": "It is UTF-16: save the file as UTF-8.",
    b"\xef\xbb\xbf": "It begins with a byte order mark: save the file as UTF-8 without one.",
    b"\x1f\x8b": "It is compressed with gzip: upload the plain .jsonl.",
    b"PK\x03\x04": "It is a zip archive: upload the plain .jsonl.",
    b"PAR1": "It is a Parquet file: export it as JSON lines.",
}


def check_mark(raw: bytes) -> None:
    """The file's first line: raises `RowError` when the file is no plain UTF-8."""
    for mark, message in MARKS.items():
        if raw.startswith(mark):
            raise RowError(message, "wrong_encoding")


def too_long(limit: int) -> RowError:
    return RowError(
        f"It has more than {limit:,} bytes: shorten the example, or split it into several.", "line_too_long"
    )


def json_object(raw: bytes) -> Mapping[str, Any]:
    if b"\0" in raw:
        raise _nul()
    try:
        values = json_text.decoded(raw)
    except UnicodeDecodeError as error:
        raise RowError("It is not valid UTF-8: save the file as UTF-8.", "invalid_utf8") from error
    except RecursionError as error:
        raise _too_deep() from error
    except msgspec.DecodeError as error:
        raise _no_json(raw, error) from error
    if not isinstance(values, dict):
        raise RowError("It is no JSON object: write each example as {…} on a line of its own.", "not_an_object")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(values) > MAX_DEPTH:
        raise _too_deep()
    if b"\\u0000" in raw and "\0" in json.loads(raw, object_pairs_hook=_texts):
        raise _nul()
    return values


def _texts(pairs: list[tuple[str, Any]]) -> str:
    """All texts of an object as one, so that one look is enough."""
    return "".join(key + _text_within(value) for key, value in pairs)


def _text_within(value: Any) -> str:
    return "".join(map(_text_within, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def _no_json(raw: bytes, error: msgspec.DecodeError) -> RowError:
    """msgspec says "truncated" of half a surrogate pair, too."""
    try:
        json.loads(raw, parse_constant=_refused)
    except (ValueError, RecursionError):
        return RowError(f"It is not valid JSON ({error}): write one whole object on each line.", "invalid_json")
    if b"\\ud" in raw.lower():
        message = "It holds half a surrogate pair (\\ud800 to \\udfff), which is broken Unicode: remove or complete it."
        return RowError(message, "lone_surrogate")
    return RowError(f"It holds a number that cannot be kept ({error}): write it as text.", "invalid_json")


def _refused(name: str) -> NoReturn:
    raise ValueError(name)


def _nul() -> RowError:
    return RowError("It holds a NUL character (\\u0000): remove it.", "nul_character")


def _too_deep() -> RowError:
    return RowError(f"It is nested more than {MAX_DEPTH} levels deep: make it flatter.", "nested_too_deeply")


def _depth(value: Any) -> int:
    """How deep lists and objects lie in each other, without recursion."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        inner = (part.values() if isinstance(part, dict) else part for part in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return deepest
