"""Arrays, wrapped arrays and objects one after another are cut into rows, a row at a time."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from apps.core.errors import DomainError
from apps.datasets.imports import json_stream
from apps.datasets.imports.json_stream import read_json
from apps.datasets.imports.readers import Flaw, Row

LIMIT = 1_000  # bytes of a row
TRICKY = [
    {"a": 'quotes " \\ and \\" and \u2028'}, {"a": "}]{[,:"}, {"a": {"b": [{}, [], [[1]]]}, "c": [{"d": "]"}]},
    {}, {"ümlaut \U0001f600": "e\u0301"}, {"a": "\\"}, {"a": "\\\\"}, {"n": [1.5, -2e3, True, None]},
]  # fmt: skip


def read(content: bytes | str, *, wraps: bool = False, limit: int = LIMIT) -> tuple[list[Row | Flaw], list[str]]:
    raw = content.encode() if isinstance(content, str) else content
    notes: list[str] = []
    return list(read_json(io.BytesIO(raw), row_bytes=limit, wraps=wraps, notes=notes)), notes


def values(found: list[Row | Flaw]) -> list[dict[str, Any]]:
    assert all(isinstance(row, Row) for row in found), found
    return [row.values for row in found if isinstance(row, Row)]


@pytest.fixture(params=[1, 5, 64, 1024**2], autouse=True)
def block(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a block ends within."""
    monkeypatch.setattr(json_stream, "BLOCK", request.param)


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize("ascii_", [True, False])
def test_it_works(indent: Any, ascii_: bool) -> None:
    text = json.dumps(TRICKY, indent=indent, ensure_ascii=ascii_)
    rows, notes = read(f"\ufeff  {text} \n")
    assert (values(rows), notes) == (TRICKY, [])
    assert all("\n" not in row.text and json.loads(row.text) == row.values for row in rows if isinstance(row, Row))


@pytest.mark.parametrize("between", ["", " ", "\n", ",\n", "\r"])
@pytest.mark.parametrize("indent", [None, 2])
def test_objects_one_after_another(between: str, indent: int | None) -> None:
    rows, _ = read(between.join(json.dumps(row, indent=indent) for row in TRICKY))
    assert values(rows) == TRICKY


def test_rows_know_their_lines_and_numbers() -> None:
    rows, _ = read('[\n{"a": 1},\n\n{"a":\n2}, {"a": 3}, nonsense\n, {"a": 4}]')
    assert [row.line for row in rows] == [2, 4, 5, 5, 6]
    assert [row.place for row in rows if isinstance(row, Row)] == ["element 1", "element 2", "element 3", "element 5"]
    assert isinstance(rows[3], Flaw)
    assert rows[3].message.startswith("element 4: This element is not valid JSON")


@pytest.mark.parametrize("text", ["[]", " [ ] ", '[{"a": 1},]', '[{"a": 1} , ]'])
def test_ends_of_arrays(text: str) -> None:
    assert len(values(read(text)[0])) == text.count("{")


@pytest.mark.parametrize(
    ("element", "says"),
    [
        ("1", "This element is no JSON object"),
        ("[1, 2]", "This element is no JSON object"),
        ('"text"', "This element is no JSON object"),
        ("null", "This element is no JSON object"),
        ('{"a": NaN}', "This element is not valid JSON"),
        ('{"a": }', "This element is not valid JSON"),
        ('{"a": ]', "This element is not valid JSON"),
        ('{"a": "\\u0000"}', "NUL character"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"a": "\\x"}', "This element is not valid JSON"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested more than 64 levels deep"),
        ('{"a": "' + "x" * LIMIT + '"}', "more bytes than a row may have"),
        ('{"a": [' + '"x",' * LIMIT + '""]}', "more bytes than a row may have"),
        ("12" * LIMIT, "more bytes than a row may have"),
    ],
)
def test_it_rejects_an_element(element: str, says: str) -> None:
    rows, _ = read(f'[{{"a": 1}}, {element}, {{"a": 3}}]')
    assert isinstance(rows[1], Flaw)
    assert rows[1].message.startswith("element 2: ")
    assert says in rows[1].message
    assert values([rows[0], rows[2]]) == [{"a": 1}, {"a": 3}]


def test_what_is_no_object_between_objects_is_a_flaw() -> None:
    rows, _ = read('{"a": 1}\nnonsense {"a": 2}\n] x\n{"a": 3}\n,\n"text"')
    assert [(type(row).__name__, row.line) for row in rows] == [
        ("Row", 1), ("Flaw", 2), ("Flaw", 3), ("Row", 4), ("Flaw", 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a": 2', "What begins in line 1 does not end: the file is cut off"),
        ('[{"a": 1},\n{"a": 2}\n', "Line 3: ',' is expected, but the end of the file comes."),
        ('[{"a": 1}\n {"a": 2}]', "Line 2: ',' is expected, but '{' comes."),
        ('[{"a": 1}]\n[{"a": 2}]', "Line 2: the file goes on behind the end of its array."),
        ('[{"a": 1}, {"a": "x}, {"b": "y"}]', "What begins in line 1 does not end"),
        ('[{"a": 1}, {"a": "x\ny"}]', "Line 1: a text is not closed. Write a line break within a text as \\n."),
        ('[{"a": 1}, {"a": "x\\\ny"}]', "Line 1: a text is not closed."),
        ('{"a": 1}{"a": {"b": 1}\n{"a": 2}', "What begins in line 1 does not end"),
        ("[", "is expected, but the end of the file comes"),
        ('["', "What begins in line 1 does not end"),
    ],
)
def test_it_rejects_a_text_that_breaks_off(text: str, says: str) -> None:
    with pytest.raises(DomainError) as caught:
        read(text)
    assert says in caught.value.message


def test_rows_may_lie_in_an_object() -> None:
    text = json.dumps({"version": "1.1", "meta": {"data": [{"x": 1}]}, "data": TRICKY, "count": 8, "empty": {}})
    rows, notes = read(text, wraps=True)
    assert values(rows) == TRICKY
    assert [row.place for row in rows[:2] if isinstance(row, Row)] == ["data: element 1", "data: element 2"]
    assert notes == ["Rows are read from 'data'.", "Not read: 'version', 'meta', 'count', 'empty'."]


def test_lists_that_are_splits_are_all_read() -> None:
    rows, notes = read(json.dumps({"train": [{"a": 1}, {"a": 2}], "valid": [{"a": 3}], "test_gen": []}), wraps=True)
    assert [(row.values["a"], row.split) for row in rows if isinstance(row, Row)] == [
        (1, "train"), (2, "train"), (3, "validation"),
    ]  # fmt: skip
    assert notes == [f"Rows are read from {name!r}." for name in ("train", "valid", "test_gen")]


def test_the_dataset_viewers_rows_are_unwrapped() -> None:
    viewer = [{"row_idx": at, "row": row, "truncated_cells": []} for at, row in enumerate(TRICKY)]
    viewer.append({"row_idx": 9, "row": {"a": "cut"}, "truncated_cells": ["a"]})
    text = json.dumps({"features": [{"name": "a"}], "rows": viewer, "num_rows_total": 9}, indent=1)
    rows, notes = read(text, wraps=True)
    assert values(rows[:-1]) == TRICKY
    assert all(json.loads(row.text) == row.values for row in rows if isinstance(row, Row))
    assert isinstance(rows[-1], Flaw)
    assert "The dataset viewer cut its cells ['a']" in rows[-1].message
    assert notes == ["Rows are read from 'rows'.", "Not read: 'features', 'num_rows_total'."]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ({"data": [{"a": 1}], "items": [{"a": 1}]}, "several lists of rows, 'data' and 'items'"),
        ({"train": [{"a": 1}], "items": [{"a": 1}]}, "several lists of rows, 'train' and 'items'"),
        ('{"data": [{"a": 1}]', "is expected, but the end of the file comes"),
        ('{"data": [{"a": 1}]} {}', "the file goes on behind the end of its object"),
        ('{"data": [{"a": 1}], 7: 1}', "the name of a value is expected"),
        ('{"data": [{"a": 1}] "b": 1}', "'}' is expected, but '\"' comes"),
    ],
)
def test_it_rejects_an_object(text: Any, says: str) -> None:
    with pytest.raises(DomainError) as caught:
        read(text if isinstance(text, str) else json.dumps(text), wraps=True)
    assert says in caught.value.message


class Parts(io.RawIOBase):
    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._left = parts, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._parts, b"")
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


@pytest.mark.parametrize("block", [1024**2], indirect=True)
def test_a_long_array_takes_the_memory_of_a_row(block: None) -> None:
    row = json.dumps({"a": "x" * 500, "b": [{"c": 1}] * 10}).encode()

    def parts() -> Iterator[bytes]:
        yield b"[" + row
        for _ in range(20):
            yield (b"," + row) * 1_000
        yield b',{"a": "'
        yield from [b"y" * 1_000_000] * 50
        yield b'"},' + row + b"]"

    tracemalloc.start()
    kinds = [type(found) for found in read_json(Parts(parts()), row_bytes=10_000, wraps=False, notes=[])]  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kinds == [Row] * 20_001 + [Flaw, Row]
    assert peak < 8 * 1024**2
