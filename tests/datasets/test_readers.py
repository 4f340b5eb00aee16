"""Bytes in, rows and flaws out: each with its line, and never more than a row in memory."""

import io
import json
import tracemalloc
from typing import Any

import pytest

from apps.core.errors import DomainError
from apps.datasets.imports.readers import MAX_COLUMNS, Flaw, Row, read_csv, read_jsonl

LIMIT = 1_000  # bytes of a row


def jsonl(content: bytes, limit: int = LIMIT) -> list[Row | Flaw]:
    return list(read_jsonl(io.BytesIO(content), row_bytes=limit))


def csv(content: str | bytes, limit: int = LIMIT) -> list[Row | Flaw]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_csv(io.BytesIO(raw), row_bytes=limit))


def flaw(found: list[Row | Flaw]) -> Flaw:
    (only,) = found
    assert isinstance(only, Flaw)
    return only


def values(found: list[Row | Flaw]) -> list[dict[str, Any]]:
    assert all(isinstance(row, Row) for row in found)
    return [row.values for row in found if isinstance(row, Row)]


def test_it_works() -> None:
    rows = jsonl(b'{"a": 1}\n\n  \n{"a": "\xc3\xa4"}\r\n{"a": null}')
    assert values(rows) == [{"a": 1}, {"a": "ä"}, {"a": None}]
    assert [row.line for row in rows] == [1, 4, 5]
    assert isinstance(rows[1], Row)
    assert rows[1].text == '{"a": "ä"}'


def test_a_byte_order_mark_is_passed_over() -> None:
    assert values(jsonl(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]
    assert values(csv(b"\xef\xbb\xbfa,b\n1,2\n")) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"nonsense", "This line is not valid JSON"),
        (b"[1, 2]", "This line is no JSON object"),
        (b'"text"', "This line is no JSON object"),
        (b'{"a": "\xff"}', "This line is not valid UTF-8."),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": "\\udfff x"}', "half a surrogate pair"),
        (b'{"a": "\\u0000"}', "NUL character"),
        (b'{"\\u0000": 1}', "NUL character"),
        (b'{"a": [{"b": ["\\u0000"]}]}', "NUL character"),
        (b'{"a": "\x00"}', "This line is not valid JSON"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 levels deep"),
        (b'{"a": ' + b"[" * 400 + b"]" * 400 + b"}", "nested more than 64 levels deep"),
        (b'{"a": NaN}', "This line is not valid JSON"),
        (b'{"a": 1e999}', "a number that cannot be kept"),
        (b'{"a": "' + b"x" * LIMIT + b'"}', "more than 1,000 bytes"),
    ],
)
def test_it_rejects_a_line(line: bytes, says: str) -> None:
    rows = jsonl(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert [row.line for row in rows] == [1, 2, 3]
    assert isinstance(rows[1], Flaw)
    assert says in rows[1].message
    assert isinstance(rows[2], Row)


def test_nesting_beyond_the_interpreters_stack_is_a_flaw() -> None:
    deep = b'{"a": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"
    assert "nested more than 64 levels deep" in flaw(jsonl(deep, 1_000_000)).message


def test_a_wide_row_is_no_deep_one() -> None:
    wide = json.dumps({"a": [[] for _ in range(100)], "b": [{"c": [1]} for _ in range(100)]}).encode()
    assert isinstance(jsonl(wide, 10_000)[0], Row)


def test_rows_with_too_many_columns_are_flaws() -> None:
    row = json.dumps({f"c{number}": 1 for number in range(MAX_COLUMNS + 1)}).encode()
    assert flaw(jsonl(row, 100_000)).message == "This row has 501 columns; at most 500 can be read."


def test_a_line_of_gigabytes_is_passed_over_in_blocks() -> None:
    class Endless(io.RawIOBase):
        left = 64 * 1024**2

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            size = min(len(buffer), self.left)
            buffer[:size] = b"x" * size
            self.left -= size
            return size

    tracemalloc.start()
    rows = list(read_jsonl(io.BufferedReader(Endless()), row_bytes=LIMIT))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "more than 1,000 bytes" in flaw(rows).message
    assert peak < 8 * 1024**2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_from_the_header(delimiter: str) -> None:
    text = f'question{delimiter}answer\n"Paris, {delimiter}Texas"{delimiter}yes\n'
    assert values(csv(text)) == [{"question": f"Paris, {delimiter}Texas", "answer": "yes"}]


def test_quoted_line_feeds_belong_to_the_row() -> None:
    rows = csv('q,a\n"one\ntwo\r\nthree",1\n\nnext,"say ""hi"""\n')
    assert values(rows) == [{"q": "one\ntwo\r\nthree", "a": "1"}, {"q": "next", "a": 'say "hi"'}]
    assert [row.line for row in rows] == [2, 6]


def test_one_column_needs_no_delimiter() -> None:
    assert values(csv("prompt\nHello\n")) == [{"prompt": "Hello"}]


def test_what_looks_like_a_formula_is_a_text() -> None:
    cells = [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-1",
        "@SUM(A1)",
        "\u202egpj.exe",
        "\x1b[31mred",
        "<script>alert(1)</script>",
    ]
    assert [row["q"] for row in values(csv("q,a\n" + "".join(f'"{cell}",x\n' for cell in cells)))] == cells


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("a,b\n1\n", 2, "This row has 1 field, the header has 2 fields."),
        ("a,b\n1,2,3\n", 2, "This row has 3 fields, the header has 2 fields."),
        ('a,b\n"x"y,2\n', 2, "This row is not valid CSV"),
        ("a,b\n1,\0\n", 2, "This row holds a NUL character."),
    ],
)
def test_it_rejects_a_row(content: str, line: int, says: str) -> None:
    rows = csv(f"{content}3,4\n")
    assert isinstance(rows[0], Flaw)
    assert (rows[0].line, rows[0].message[: len(says)]) == (line, says)
    assert values(rows[1:]) == [{"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "The file is empty"),
        ("a,,c\n1,2,3\n", "A column has no name"),
        ("a,b,a\n1,2,3\n", "Two columns are called 'a'"),
        (",".join(f"c{number}" for number in range(10_000)) + "\n", "The file has 10,000 columns; at most 500"),
        (b"a,b\n\xff,2\n", "Line 2 is not valid UTF-8"),
        ("a,b\n1," + "x" * 100_000 + "\n", "Line 2: the row has more than"),
        ('a,b\n1,"' + "x\n" * 100_000, "Line 2: the row has more than"),
        ('"a\n' * 100_000, "The header cannot be read"),
        ('"' + "a\n" * 100_000, "Line 1: the row has more than"),
    ],
)
def test_it_rejects_a_file(content: str | bytes, says: str) -> None:
    with pytest.raises(DomainError) as caught:
        csv(content, 80_000)
    assert says in caught.value.message


def test_a_quote_that_is_never_closed_is_a_flaw() -> None:
    said = "This row is not valid CSV: unexpected end of data. It goes on to line 3."
    assert flaw(csv('a,b\n"never closed,2\nx\n')) == Flaw(2, said)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n", "\r\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_lines_end_as_the_first_does(end: str, last: str) -> None:
    content = end.join(["q,a", '"one, two",1', f'"three{end}four",2', "", "five,6"]) + (end if last else "")
    rows = csv(content)
    assert values(rows) == [{"q": "one, two", "a": "1"}, {"q": f"three{end}four", "a": "2"}, {"q": "five", "a": "6"}]
    assert [row.line for row in rows] == [2, 3, 6]


def test_a_header_that_ends_with_a_carriage_return() -> None:
    assert values(csv(b"prompt,completion\rIs tea hot?,Yes\r")) == [{"prompt": "Is tea hot?", "completion": "Yes"}]
    assert values(csv("q,a\rone,1\ntwo,2\r\nthree,3")) == [
        {"q": n, "a": str(i)} for i, n in enumerate(("one", "two", "three"), 1)
    ]


def test_a_carriage_return_within_a_line_is_a_flaw() -> None:
    rows = csv("q,a\none\rmore,1\ntwo,2\n")
    assert isinstance(rows[0], Flaw)
    assert "new-line character" in rows[0].message
    assert values(rows[1:]) == [{"q": "two", "a": "2"}]


def test_long_files_of_carriage_returns_come_line_by_line() -> None:
    content = "q,a\r" + "".join(f"{'x' * 500},{number}\r" for number in range(5_000))
    assert [row["a"] for row in values(csv(content))] == [str(number) for number in range(5_000)]
    with pytest.raises(DomainError, match="Line 2: the row has more than 1,000 bytes"):
        csv("q,a\r" + "x" * 3_000 + ",1\r")


def test_a_header_may_hold_line_feeds() -> None:
    assert values(csv('"the\nquestion";"the; answer"\none;1\n')) == [{"the\nquestion": "one", "the; answer": "1"}]


@pytest.mark.parametrize("content", ['"a"b,c\n1,2\n', '"a\rb'])
def test_a_header_that_is_no_csv_is_refused(content: str) -> None:
    with pytest.raises(DomainError, match="The header cannot be read"):
        csv(content)
