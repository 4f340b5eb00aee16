"""Whatever rows are packed in: the same rows come out, or a sentence says why not."""

import gzip
import io
import random
import string
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.core.errors import DomainError
from apps.datasets.imports.names import split_of
from apps.datasets.imports.readers import Flaw, Row
from apps.datasets.imports.row_files import ArchiveFile, RowFile, Source
from apps.datasets.imports.unpacking import Budget, Enough, is_zip
from tests.datasets.packed import EVERY, PACKS, TEXTS, array, folder, lines, packed, zipped, zst

UNPACKED = 64 * 1024**2
ROWS = [{"prompt": f"What is {number}?", "completion": f'"{number}" — ]}} \\', "n": number} for number in range(50)]


def source(name: str, raw: bytes, budget: Budget | None = None) -> Source:
    content, budget = io.BytesIO(raw), budget or Budget(UNPACKED)
    if is_zip(content):
        return ArchiveFile(content, len(raw), budget)
    return RowFile(content, name, len(raw), budget)


def read(name: str, raw: bytes) -> list[Row | Flaw]:
    return list(source(name, raw).rows())


def values(found: list[Row | Flaw]) -> list[dict[str, Any]]:
    assert all(isinstance(row, Row) for row in found), found
    return [row.values for row in found if isinstance(row, Row)]


@pytest.mark.parametrize(("text", "pack"), EVERY)
def test_it_works(text: str, pack: str) -> None:
    name, raw = packed(ROWS, text, pack)
    file = source(name, raw)
    assert values(list(file.rows())) == ROWS
    assert file.format == ("zip" if name.endswith(".zip") else "jsonl" if text == "rows.jsonl" else "json")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAMES = st.text(string.ascii_letters, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.lists(st.dictionaries(NAMES, JSON, max_size=4), min_size=1, max_size=6)


@given(rows=OBJECTS, how=st.sampled_from(EVERY))
@example(rows=[{}, {"a": 1}], how=("pretty.json", "plain"))
@example(rows=[{"data": [{"a": 1}]}] * 2, how=("rows.jsonl", "plain"))
@example(rows=[{"data": [{"a": 1}]}] * 2, how=("pretty.json", "zip"))
@hypothesis_settings(max_examples=150, deadline=None)
def test_every_container_gives_the_same_rows(rows: list[dict[str, Any]], how: tuple[str, str]) -> None:
    """But of an object that stands alone, which may be a list of rows."""
    alone = how[0] in ("rows.jsonl", "pretty.json") and len(rows) == 1
    assume(not (alone and any(isinstance(value, list | dict) for value in rows[0].values())))
    assert values(read(*packed(rows, *how))) == rows


@pytest.mark.parametrize("pack", [*PACKS, "folder"])
def test_what_is_cut_or_changed_is_never_lost_in_silence(pack: str) -> None:
    """All rows, or a flaw or an error for those that are not there; and no other error."""
    chance = random.Random(pack)
    for text in TEXTS:
        name, raw = ("rows.zip", folder(ROWS)) if pack == "folder" else packed(ROWS, text, pack)
        unframed = pack in ("plain", "mark", "utf-16") and text in ("rows.jsonl", "pretty.json")
        for _ in range(10):
            cut = raw[: chance.randrange(4, len(raw))]
            assert unframed or _is_accounted_for(name, cut), (text, len(cut))
            at = chance.randrange(4, len(raw))
            _is_accounted_for(name, raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :])


def _is_accounted_for(name: str, raw: bytes) -> bool:
    """Whether every row is there, or something is said."""
    try:
        found = read(name, raw)
    except DomainError as error:
        return bool(error.message)
    return len(found) >= len(ROWS) or any(isinstance(row, Flaw) for row in found)


def test_a_folder_of_the_hub() -> None:
    file = source("rows.zip", folder(ROWS))
    rows = list(file.rows())
    assert values(rows) == ROWS
    assert [(row.line, row.place, row.split) for row in rows if isinstance(row, Row)][25:27] == [
        (1, "data/train-00001-of-00002.jsonl.gz", ""), (2, "data/train-00001-of-00002.jsonl.gz", ""),
    ]  # fmt: skip
    assert file.notes == [
        "Rows are read from 'data/train-00000-of-00002.jsonl', 'data/train-00001-of-00002.jsonl.gz'.",
        "Not read: 'README.md', 'dataset_infos.json'.",
    ]


def test_files_of_several_splits_come_in_their_order_and_say_so(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS[:20]), tmp_path / "rows")
    train = (tmp_path / "rows").read_bytes()
    pq.write_table(pa.Table.from_pylist(ROWS[20:30]), tmp_path / "rows")
    test = (tmp_path / "rows").read_bytes()
    files = {"test-00000-of-00001": test, "train-10": test, "train-9": train, "validation": test}
    file = source("rows.zip", zipped({f"data/{name}.parquet": raw for name, raw in files.items()}))
    found = [(row.split, row.values["n"], row.line) for row in file.rows() if isinstance(row, Row)]
    assert found[:20] == [("train", n, n + 1) for n in range(20)]
    assert [split for split, *_ in found[20:]] == ["train"] * 10 + ["validation"] * 10 + ["test"] * 10


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"), ("train.jsonl", "train"), ("my-dev-set.csv", "validation"),
        ("val/rows.jsonl", "validation"), ("test_gen-00000-of-00002.parquet", "test_gen"), ("training", "train"),
        ("train/test.csv", "test"), ("trained.csv", ""), ("contest.csv", ""), ("latest.csv", ""), ("data.jsonl", ""),
    ],
)  # fmt: skip
def test_splits_are_told_from_names(name: str, split: str) -> None:
    assert split_of(name) == split


def test_flaws_name_the_file_and_the_line() -> None:
    raw = zipped({"a.jsonl": lines(ROWS[:2]) + b"nonsense\n", "b.json": array([ROWS[0]])[:-1] + b",\n7]"})
    flaws = [row for row in read("x.zip", raw) if isinstance(row, Flaw)]
    assert [(flaw.line, flaw.message.partition(" is ")[0]) for flaw in flaws] == [
        (3, "a.jsonl: This line"), (2, "b.json: element 2: This element"),
    ]  # fmt: skip


def test_csv_of_old_macs_in_utf_16_in_a_zip() -> None:
    raw = 'q\ta\r"one\r\ntwo"\t1\r'.encode("utf-16-be")
    assert values(read("x.zip", zipped({"rows.tsv": b"\xfe\xff" + raw}))) == [{"q": "one\r\ntwo", "a": "1"}]


def test_progress_is_of_the_file_as_it_was_uploaded() -> None:
    rows = [{"a": random.Random(number).randbytes(500).hex()} for number in range(3_000)]
    for name, raw in [
        ("rows.jsonl.gz", gzip.compress(lines(rows))), ("rows.json.zst", zst(array(rows))), ("rows.json", array(rows)),
        ("rows.zip", zipped({"a.jsonl": lines(rows[:1_500]), "b.json.gz": gzip.compress(array(rows[1_500:]))})),
    ]:  # fmt: skip
        file = source(name, raw)
        seen = [file.done for _ in file.rows()]
        assert seen == sorted(seen)
        assert seen[500] < 0.75 * file.size
        assert 0.9 * file.size < file.done <= file.size


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "The archive holds no file of rows: nothing."),
        ({"README.md": b"x", "image.png": b"x"}, "The archive holds no file of rows: 'README.md', 'image.png'."),
        ({"data-00000-of-00001.arrow": b"ARROW1", "state.json": b"{}"}, "Write Parquet, as with `Dataset.to_parquet`."),
        ({"rows.jsonl": b"{}", "more.zip": b"PK"}, "The archive holds another one, 'more.zip': unpack it first."),
        ({"more.tar.gz": b"x"}, "The archive holds another one, 'more.tar.gz'"),
        ({"xl/workbook.xml": b"x"}, "The file is a spreadsheet: save it as CSV."),
        ({"a.jsonl": b"{}", "b.csv": b"a"}, "rows in several formats, as 'a.jsonl', 'b.csv': keep those of one."),
        ({"rows.jsonl": zipped({"a.jsonl": b"{}"})}, "rows.jsonl: The file holds another one that is packed, too"),
        ({"rows.jsonl.gz": gzip.compress(gzip.compress(b"{}"))}, "rows.jsonl.gz: The file holds another one"),
        ({"rows.jsonl": b"{}", "rows.parquet.gz": b"x"}, "rows in several formats"),
    ],
)
def test_it_rejects_an_archive(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(DomainError) as caught:
        read("rows.zip", zipped(files))
    assert says in caught.value.message


def test_it_rejects_what_is_encrypted_or_packed_oddly() -> None:
    raw = bytearray(zipped({"rows.jsonl": b"{}"}, zipfile.ZIP_STORED))
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DomainError, match=r"'rows\.jsonl' is encrypted"):
        read("rows.zip", bytes(raw))
    with pytest.raises(DomainError, match="packed in a way that cannot be read"):
        read("rows.zip", zipped({"rows.jsonl": b"{}"}, zipfile.ZIP_LZMA))


def test_it_rejects_an_archive_of_a_hundred_thousand_files() -> None:
    with pytest.raises(DomainError, match="The archive holds too many files"):
        read("rows.zip", zipped({f"{number:050d}.jsonl": b"" for number in range(30_000)}, zipfile.ZIP_STORED))


def _bomb(size: int) -> bytes:
    """Zeros, a thousandth of them in bytes."""
    pack = zlib.compressobj(9, wbits=31)
    return b"".join([*(pack.compress(bytes(1024**2)) for _ in range(size // 1024**2)), pack.flush()])


BOMBS: dict[str, Callable[[], bytes]] = {
    "rows.jsonl.gz": lambda: _bomb(128 * 1024**2),
    "rows.jsonl.zst": lambda: zst(bytes(128 * 1024**2)),
    "rows.zip": lambda: zipped({"rows.jsonl": bytes(128 * 1024**2)}),
    "inner.zip": lambda: zipped({"rows.jsonl.gz": _bomb(128 * 1024**2)}),
    "many.zip": lambda: zipped({f"{number}.jsonl": b" " * 9 * 1024**2 for number in range(8)}),
    "array.zip": lambda: zipped({"rows.json": b'[{"a": "' + b"x" * 128 * 1024**2}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_it_rejects_a_bomb(name: str) -> None:
    raw = BOMBS[name]()
    before = psutil.Process().memory_info().rss
    with pytest.raises(DomainError, match="The file unpacks to more than 67,108,864 bytes: split it"):
        read(name, raw)
    assert psutil.Process().memory_info().rss - before < 60 * 1024**2


def test_a_look_at_a_bomb_stops_early() -> None:
    for name in ("rows.jsonl.gz", "rows.zip", "array.zip"):
        with pytest.raises(Enough):
            list(source(name, BOMBS[name](), Budget(1024**2, Enough)).rows())
