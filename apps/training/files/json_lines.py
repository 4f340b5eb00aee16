"""A line of a training file as JSON: whatever cannot be read is told with a cure. Django-free."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import msgspec

MAX_DEPTH = 64  # of lists and objects in each other
MARKS = {
    b"\xff\xfe": "It is UTF-16: save the file as UTF-8.",
    b"\xfe\xff": "It is UTF-16: save the file as UTF-8.",
    b"\xef\xbb\xbf": "It begins with a byte order mark: save the file as UTF-8 without one.",
    b"\x1f\x8b": "It is compressed with gzip: upload the plain .jsonl.",
    b"PK\x03\x04": "It is a zip archive: upload the plain .jsonl.",
    b"PAR1": "It is a Parquet file: export it as JSON lines.",
}


class BadRow(ValueError):
    """The line cannot be used. The message says what is wrong, and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_mark(raw: bytes) -> None:
    """The file's first line: raises `BadRow` when the file is no plain UTF-8."""
    for mark, message in MARKS.items():
        if raw.startswith(mark):
            raise BadRow("wrong_encoding", message)


def too_long(limit: int) -> BadRow:
    return BadRow("line_too_long", f"It has more than {limit:,} bytes: shorten the example, or split it into several.")


def json_object(raw: bytes) -> Mapping[str, Any]:
    if b"\0" in raw:
        raise _nul()
    try:
        values = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise BadRow("invalid_utf8", "It is not valid UTF-8: save the file as UTF-8.") from error
    except RecursionError as error:
        raise _too_deep() from error
    except msgspec.DecodeError as error:
        raise _no_json(raw, error) from error
    if not isinstance(values, dict):
        raise BadRow("not_an_object", "It is no JSON object: write each example as {…} on a line of its own.")
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


def _no_json(raw: bytes, error: msgspec.DecodeError) -> BadRow:
    """msgspec says "truncated" of half a surrogate pair, too."""
    try:
        json.loads(raw, parse_constant=_refused)
    except (ValueError, RecursionError):
        return BadRow("invalid_json", f"It is not valid JSON ({error}): write one whole object on each line.")
    if b"\\ud" in raw.lower():
        message = "It holds half a surrogate pair (\\ud800 to \\udfff), which is broken Unicode: remove or complete it."
        return BadRow("lone_surrogate", message)
    return BadRow("invalid_json", f"It holds a number that cannot be kept ({error}): write it as text.")


def _refused(name: str) -> NoReturn:
    raise ValueError(name)


def _nul() -> BadRow:
    return BadRow("nul_character", "It holds a NUL character (\\u0000): remove it.")


def _too_deep() -> BadRow:
    return BadRow("nested_too_deeply", f"It is nested more than {MAX_DEPTH} levels deep: make it flatter.")


def _depth(value: Any) -> int:
    """How deep lists and objects lie in each other, without recursion."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        inner = (part.values() if isinstance(part, dict) else part for part in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return deepest


def check_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    if unknown := sorted(values.keys() - set(known)):
        message = f"{where} has the unknown key {unknown[0][:40]!r}: remove it. Known are {', '.join(sorted(known))}."
        raise BadRow("unknown_key", message)


def kind(value: Any) -> str:
    """What a value is, for people."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {str: "a text", list: "a list", dict: "an object"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "a number")
