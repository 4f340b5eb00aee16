"""The format of a file is told from its first bytes and its name; what cannot be read is refused with a cure."""

import io
import json
from typing import Any

import pytest

from apps.core.errors import DomainError
from apps.datasets.imports.formats import format_of
from apps.datasets.imports.unpacking import Budget, unpacked

ROW_BYTES = 1_000_000
ROW = {"messages": [{"role": "user", "content": "Hi"}]}


def told(name: str, content: bytes | str) -> tuple[str, bool]:
    raw = content.encode() if isinstance(content, str) else content
    return format_of(name, lambda size: raw[:size], row_bytes=ROW_BYTES)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.jsonl", '{"a":1}', "jsonl"),
        ("rows", '  {"a":1}', "jsonl"),
        ("rows.csv", "a,b\n", "csv"),
        ("rows.TSV", "a\tb\n", "csv"),
        ("rows.tsv.gz", "a\tb\n", "csv"),
        ("rows.jsonl", "PAR1....", "parquet"),
        ("rows.csv", '{"a":1}\n', "jsonl"),
        ("rows.csv", "[a],b\n1,2\n", "csv"),
        ("rows.csv", '[{"a": 1}]', "json"),
        ("rows.jsonl", '\ufeff [\n{"a": 1}]', "json"),
        ("rows.json", "[]", "json"),
        ("rows.json", '{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("rows.json", '{"a": 1}{"a": 2}', "json"),
        ("rows.json", '{"a": 1}\r{"a": 2}', "json"),
        ("rows.jsonl", '{"a": 1} nonsense\n{"a": 2}', "jsonl"),
        ("rows.jsonl", '{"a": {"b": 1}\n{"a": 2}', "jsonl"),
        ("rows.json", '{\n "a": 1\n}', "json"),
        ("rows.json", '{"a": 1\n, "b": 2}\n{"a": 3}', "json"),
        ("rows.json", "nonsense", "jsonl"),
        ("rows.json", json.dumps(ROW), "jsonl"),
        ("rows.json", json.dumps(ROW | {"data": [{"a": 1}]}), "jsonl"),
        ("rows.jsonl", json.dumps({"data": [{"a": 1}]}) + "\n" + json.dumps({"data": [{"a": 1}]}), "jsonl"),
        ("rows.jsonl", json.dumps({"turns": [{"a": "x" * 100_000}]}) + '\n{"turns": []}', "jsonl"),
        ("rows.jsonl", json.dumps({"id": 1, "turns": [{"a": "x" * 900_000}]}) + '\n{"turns": []}', "jsonl"),
    ],
)
def test_it_works(name: str, content: bytes | str, expected: str) -> None:
    assert told(name, content) == (expected, False)


@pytest.mark.parametrize(
    "value",
    [
        {"data": [ROW]},
        {"version": "1.1", "data": [ROW], "licenses": [{"id": 1}]},
        {"train": [ROW], "test": []},
        {"questions": [ROW]},
        {"questions": [ROW] * 50_000},
        {"features": [{"name": "messages"}], "rows": [{"row_idx": 0, "row": ROW}], "partial": False},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_around_lists_of_rows_is_no_row(value: Any, indent: int | None) -> None:
    assert told("rows.json", json.dumps(value, indent=indent)) == ("json", True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"title": "Quiz", "questions": [{"q": 1}]}, "Are its rows in 'questions'?"),
        ({"a": [{"q": 1}], "b": [{"q": 1}]}, "Are its rows in 'a' or 'b'?"),
        ({"prompt": ["a", "b"], "completion": ["c", "d"]}, "holds a list for each column"),
        ({"prompt": {"0": "a", "1": "b"}, "completion": {"0": "a", "1": "b"}}, "holds a list for each column"),
    ],
)
def test_it_rejects_what_is_ambiguous(content: Any, says: str) -> None:
    with pytest.raises(DomainError) as caught:
        told("rows.json", json.dumps(content))
    assert says in caught.value.message


def test_it_rejects_a_name_that_lies() -> None:
    with pytest.raises(DomainError, match=r"ends in \.parquet, but it is none"):
        told("rows.parquet", "no parquet")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"7z\xbc\xaf\x27\x1c", "7z archive"),
        (b"Rar!\x1a\x07\0", "RAR archive"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\xd0\xcf\x11\xe0\xa1", "old Office program"),
        (b"ARROW1\0\0", "write Parquet"),
        ('{"a":1}'.encode("utf-32"), "UTF-32"),
        (b"rows.jsonl".ljust(257, b"\0") + b"ustar\0", "tar archive"),
    ],
)
def test_it_rejects_what_is_packed_otherwise(head: bytes, says: str) -> None:
    with pytest.raises(DomainError, match=says):
        unpacked(io.BytesIO(head), Budget(1_000))
