"""Parquet is unpacked by a process of its own, which a hostile file may kill, but not us."""

import collections
import contextlib
import io
import os
import time
from array import array
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.core.errors import DomainError
from apps.datasets.imports.parquet import ParquetReader
from apps.datasets.imports.readers import Flaw, Row

ROW_BYTES = 10 * 1024**2
UNPACKED = 256 * 1024**2


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def read(path: Path, row_bytes: int = ROW_BYTES, unpacked: int = UNPACKED) -> list[Row | Flaw]:
    return list(ParquetReader(path, row_bytes=row_bytes, unpacked_bytes=unpacked).rows())


def test_it_works(tmp_path: Path) -> None:
    table = pa.table({"question": ["Capital of France?", "Ümlaut \U0001f600"], "n": [1, None], "tags": [["a"], []]})
    path = write(tmp_path / "rows.parquet", table)
    reader = ParquetReader(path, row_bytes=ROW_BYTES, unpacked_bytes=UNPACKED)
    rows = [row for row in reader.rows() if isinstance(row, Row)]
    assert rows[0].values == {"question": "Capital of France?", "n": 1, "tags": ["a"]}
    assert rows[1].values == {"question": "Ümlaut \U0001f600", "n": None, "tags": []}
    assert ([row.line for row in rows], reader.done, reader.total) == ([1, 2], 2, 2)


def test_chat_messages_are_lists_of_objects(tmp_path: Path) -> None:
    messages = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]]
    (row,) = read(write(tmp_path / "chat.parquet", pa.table({"messages": messages})))
    assert isinstance(row, Row)
    assert row.values == {"messages": messages[0]}


def test_what_json_has_no_word_for_is_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": [datetime(2026, 1, 2, tzinfo=UTC)],
            "price": [Decimal("1.50")],
            "blob": [b"\xff\x00"],
            "text": pa.array([b"plain"], pa.binary()),
            "nan": [float("nan")],
        }
    )
    (row,) = read(write(tmp_path / "kinds.parquet", table))
    assert isinstance(row, Row)
    assert row.values == {
        "when": "2026-01-02T00:00:00+00:00", "price": "1.50", "blob": "/wA=", "text": "plain", "nan": None,
    }  # fmt: skip


def test_many_rows_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "many.parquet", pa.table({"prompt": [f"What is {n} + 1?" for n in range(50_000)]}))
    started = time.monotonic()
    assert len(read(path)) == 50_000
    assert time.monotonic() - started < 30


def test_rows_that_cannot_be_stored_are_flaws(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.parquet", pa.table({"prompt": ["good", "a\0b", "x" * 2_000, "good"]}))
    rows = read(path, row_bytes=1_000)
    assert [type(row).__name__ for row in rows] == ["Row", "Flaw", "Flaw", "Row"]
    assert [row.message for row in rows if isinstance(row, Flaw)] == [
        "This row holds a NUL character.", "This row has more than 1,000 bytes, which is the limit.",
    ]  # fmt: skip


def test_it_rejects_a_file_that_unpacks_to_terabytes(tmp_path: Path) -> None:
    """8 MB a million times: 8 TB of text in 100 kB."""
    values = pa.array(["x" * 8 * 1024**2])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), values)
    path = write(tmp_path / "bomb.parquet", pa.table({"prompt": column}), compression="zstd")
    assert path.stat().st_size < 1024**2
    before = psutil.Process().memory_info().rss
    rows = ParquetReader(path, row_bytes=ROW_BYTES, unpacked_bytes=UNPACKED).rows()
    with pytest.raises(DomainError, match="The file unpacks to more than 268,435,456 bytes"):
        collections.deque(rows, maxlen=1)
    rows = ParquetReader(path, row_bytes=1_000, unpacked_bytes=UNPACKED).rows()
    with pytest.raises(DomainError, match="The file unpacks to more than 268,435,456 bytes"):
        collections.deque(rows, maxlen=1)  # rows that are too long count too
    assert psutil.Process().memory_info().rss - before < 200 * 1024**2
    assert not _children()


def test_it_rejects_a_page_that_needs_more_memory_than_a_file_may(tmp_path: Path) -> None:
    offsets, content = array("i", [0, 850_000_000]), bytes(850_000_000)
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(content)])
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    path = write(tmp_path / "page.parquet", pa.table({"prompt": column}), **options)
    assert path.stat().st_size < 1024**2
    with pytest.raises(DomainError, match=r"unpacks to more than can be held|needs more memory"):
        read(path)
    assert not _children()


def test_it_rejects_a_row_of_a_billion_nothings(tmp_path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 300_000_000]), pa.nulls(300_000_000, pa.int8()))
    path = write(tmp_path / "nothings.parquet", pa.table({"prompt": lists}), compression="zstd")
    with pytest.raises(DomainError, match=r"unpacks to more than can be held|needs more memory"):
        read(path)


@pytest.mark.parametrize("cut", [8, 40, 200, -1])
def test_it_rejects_a_damaged_file(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "whole.parquet", pa.table({"prompt": [f"row {n}" for n in range(1_000)]}))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DomainError, match="cannot be read: it is damaged"):
        read(path)


def test_it_rejects_a_file_whose_bytes_were_changed(tmp_path: Path) -> None:
    """Whatever is read of it is a row, a flaw or a sentence."""
    whole = io.BytesIO()
    pq.write_table(pa.table({"prompt": [f"row {n}" for n in range(200)]}), whole)
    for at in range(10, len(whole.getvalue()), len(whole.getvalue()) // 8):
        raw = bytearray(whole.getvalue())
        raw[at : at + 6] = os.urandom(6)
        path = tmp_path / f"changed-{at}.parquet"
        path.write_bytes(raw)
        with contextlib.suppress(DomainError):
            assert all(isinstance(row, Row | Flaw) for row in read(path))


@pytest.mark.parametrize(
    ("names", "says"),
    [([f"c{n}" for n in range(501)], "has 501 columns; at most 500"), (["a", "a"], "the same name")],
)
def test_it_rejects_columns(tmp_path: Path, names: list[str], says: str) -> None:
    table = pa.table([pa.array(["x"]) for _ in names], names=names)
    with pytest.raises(DomainError, match=says):
        read(write(tmp_path / "columns.parquet", table))


def test_it_rejects_a_file_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="The file holds no row"):
        read(write(tmp_path / "empty.parquet", pa.table({"prompt": pa.array([], pa.string())})))


def test_a_reader_that_stops_early_leaves_no_process(tmp_path: Path) -> None:
    path = write(tmp_path / "many.parquet", pa.table({"prompt": ["x" * 100] * 200_000}))
    rows = ParquetReader(path, row_bytes=ROW_BYTES, unpacked_bytes=UNPACKED).rows()
    next(rows)
    assert _children()
    rows.close()  # type: ignore[attr-defined]
    assert not _children()


def test_the_process_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    path = write(tmp_path / "many.parquet", pa.table({"prompt": ["x" * 100] * 200_000}))
    rows = ParquetReader(path, row_bytes=ROW_BYTES, unpacked_bytes=UNPACKED).rows()
    next(rows)
    assert all("DATABASE_URL" not in child.environ() for child in _children())
    rows.close()  # type: ignore[attr-defined]


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "parquet_rows" in " ".join(child.cmdline())]
