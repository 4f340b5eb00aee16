"""Whatever a file holds is stored as it is, or refused with a sentence."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Example, Import
from tests.datasets.files import ended, jsonl, upload
from tests.datasets.packed import packed, zipped

pytestmark = pytest.mark.django_db(transaction=True)

INERT = {
    "a script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a link": "[click](javascript:alert(1)) <a href='javascript:alert(1)'>x</a>",
    "bidi marks": "\u202egpj.exe\u202c \u2066\u2069 \u200f",
    "ANSI": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "a formula": "=cmd|' /C calc'!A0",
    "another formula": "+1+1@SUM(A1)\t-2",
    "emoji and marks": "e\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467 Z\u0334\u0335\u0336",
    "a template": "{{ 7 * 7 }} {% for a in b %}",
    "SQL": "'); DROP TABLE datasets_example; -- %s %(x)s",
    "COPY's own marks": "\\N\\.\t\\x41\\\\\r\n\\.",
    "a long word": "x" * 300_000,
}


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="hostile")


def run(dataset: Dataset, keeper: Keeper, content: bytes | str, name: str, **options: Any) -> Import:
    file = upload(dataset.project, content, name)
    job: Import = ended(services.start_import(dataset=dataset, file=file, **options), keeper, KIND)
    return job


def test_it_works_for_jsonl(dataset: Dataset, keeper: Keeper) -> None:
    rows = [{"prompt": text, "completion": text, "id": text[:9]} for text in INERT.values()]
    assert run(dataset, keeper, jsonl(rows), "rows.jsonl").status == "completed"
    _check(dataset)


def test_it_works_for_csv(dataset: Dataset, keeper: Keeper) -> None:
    cells = [text.replace('"', '""') for text in INERT.values()]
    content = "prompt,completion\n" + "".join(f'"{cell}","{cell}"\n' for cell in cells)
    assert run(dataset, keeper, content, "rows.csv").status == "completed"
    _check(dataset)


def test_it_works_for_parquet(dataset: Dataset, keeper: Keeper, tmp_path: Path) -> None:
    texts = list(INERT.values())
    pq.write_table(pa.table({"prompt": texts, "completion": texts}), tmp_path / "rows.parquet")
    assert run(dataset, keeper, (tmp_path / "rows.parquet").read_bytes(), "rows.parquet").status == "completed"
    _check(dataset)


@pytest.mark.parametrize(("text", "pack"), [("rows.json", "gzip"), ("viewer.json", "zip"), ("rows.jsonl", "zstd")])
def test_it_works_packed(dataset: Dataset, keeper: Keeper, text: str, pack: str) -> None:
    name, content = packed(
        [{"prompt": cell, "completion": cell, "id": cell[:9]} for cell in INERT.values()], text, pack
    )
    assert run(dataset, keeper, content, name).status == "completed"
    _check(dataset)


def _check(dataset: Dataset) -> None:
    examples = list(dataset.examples.order_by("number"))
    assert [example.prompt for example in examples] == list(INERT.values())
    assert [example.reference for example in examples] == list(INERT.values())
    assert [json.loads(example.messages)[0]["content"] for example in examples] == list(INERT.values())
    assert [json.loads(example.data)["prompt"] for example in examples] == list(INERT.values())


def test_a_cell_of_five_megabytes_is_kept(dataset: Dataset, keeper: Keeper) -> None:
    cell = "<b>wörds</b> " * 380_000
    assert len(cell.encode()) > 5_000_000
    content = f'question,answer\n"{cell}",yes\n'
    job = run(dataset, keeper, content, "rows.csv", mapping={"prompt": "{{ question }}", "reference": "{{ answer }}"})
    assert job.status == "completed"
    assert Example.objects.get(dataset=dataset).prompt == cell


def test_a_cell_beyond_the_limit_is_refused(dataset: Dataset, keeper: Keeper, settings: Any) -> None:
    settings.DATASET_ROW_MAX_BYTES = 1_000
    rows = jsonl([{"prompt": "good", "completion": ""}, {"prompt": "x" * 2_000, "completion": ""}])
    job = run(dataset, keeper, rows, "rows.jsonl")
    assert job.errors == [{"line": 2, "message": "This line has more than 1,000 bytes, which is the limit."}]


def test_broken_unicode_is_refused_line_by_line(dataset: Dataset, keeper: Keeper) -> None:
    lines = [
        b'{"prompt": "good", "completion": ""}', b'{"prompt": "\\ud800", "completion": ""}',
        b'{"prompt": "\xc3\x28", "completion": ""}', b'{"prompt": "\\u0000", "completion": ""}',
    ]  # fmt: skip
    job = run(dataset, keeper, b"\n".join(lines), "rows.jsonl", skip_bad=True)
    assert [error["line"] for error in job.errors] == [2, 3, 4]
    assert (job.status, job.rows) == ("completed", 1)


def test_ten_thousand_columns_are_refused(dataset: Dataset) -> None:
    names = ",".join(f"column{number}" for number in range(10_000))
    with pytest.raises(DomainError, match="The file has 10,000 columns; at most 500 can be read"):
        services.start_import(dataset=dataset, file=upload(dataset.project, f"{names}\n{names}\n", "wide.csv"))


def test_a_parquet_bomb_is_refused(dataset: Dataset, keeper: Keeper, tmp_path: Path, settings: Any) -> None:
    settings.FILE_MAX_BYTES = 16 * 1024**2
    values = pa.array(["x" * 3 * 1024**2])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 500_000, pa.int32()), values)
    pq.write_table(pa.table({"prompt": column, "completion": column}), tmp_path / "bomb", compression="zstd")
    job = run(dataset, keeper, (tmp_path / "bomb").read_bytes(), "bomb.parquet")
    assert (job.status, job.message) == ("failed", "The file unpacks to more than 67,108,864 bytes: split it.")
    assert not dataset.examples.exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.jsonl", '{"prompt": "a"}\n'.encode("utf-32"), "The file is UTF-32"),
        ("rows.jsonl", '{"prompt": "a"}\n'.encode("utf-16")[:-1] + b"\xd8\n\0", "no valid UTF-16"),
        ("rows.jsonl.gz", b"\x1f\x8b\x08" + b"\0" * 100, "cannot be unpacked: it is damaged"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\0" * 100, "cannot be unpacked: it is damaged"),
        ("rows.jsonl.gz", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "holds another one that is packed"),
        ("rows.xlsx", b"PK\x03\x04" + b"\0" * 100, "cannot be unpacked: it is damaged"),
        ("rows.json", b'[{"prompt": "a"}', "',' is expected, but the end of the file comes"),
        ("rows.json", b"[]", "The file holds no row that can be read"),
        ("rows.parquet", b"no parquet at all", "ends in .parquet, but it is none"),
        ("rows.csv", b"a,b\n\xff\xfe,1\n", "Line 2 is not valid UTF-8"),
        ("rows.bin", bytes(range(256)) * 40, "The file holds no row that can be read"),
    ],
)
def test_it_rejects(dataset: Dataset, name: str, content: bytes, says: str) -> None:
    with pytest.raises(DomainError) as caught:
        services.start_import(dataset=dataset, file=upload(dataset.project, content, name))
    assert says in caught.value.message


def test_names_within_a_file_are_no_markup_and_no_control_characters(dataset: Dataset, keeper: Keeper) -> None:
    name = "a\x1b[31m\nb\u202e\x00"
    content = json.dumps({name: [{"prompt": 7, "completion": ""}, {"prompt": "a", "completion": ""}]})
    for file, raw in (("rows.json", content.encode()), ("rows.zip", zipped({f"{name[:-1]}.json": content.encode()}))):
        job = run(dataset, keeper, raw, file, skip_bad=True)
        assert (job.status, job.rows) == ("completed", 1), job.message
        assert (job.errors[0]["message"] + job.message).isprintable()


def test_an_archive_bomb_is_refused(dataset: Dataset, keeper: Keeper, settings: Any) -> None:
    settings.FILE_MAX_BYTES = 8 * 1024**2
    rows = jsonl([{"prompt": "a", "completion": ""}] * 200)
    content = zipped({"a.jsonl": rows.encode(), "b.jsonl": bytes(64 * 1024**2)})
    job = run(dataset, keeper, content, "bomb.zip", skip_bad=True)
    assert (job.status, job.message) == ("failed", "b.jsonl: The file unpacks to more than 33,554,432 bytes: split it.")
    assert not dataset.examples.exists()


@pytest.mark.parametrize("size", [40 * 1024**2])
def test_a_look_at_a_bomb_is_short(dataset: Dataset, size: int) -> None:
    file = upload(dataset.project, gzip.compress(bytes(size)), "bomb.jsonl.gz")
    with pytest.raises(DomainError, match="The file holds no row that can be read"):
        services.preview(file=file)


def test_a_template_injection_starts_nothing(dataset: Dataset) -> None:
    file = upload(dataset.project, "question\nHi\n", "rows.csv")
    with pytest.raises(DomainError, match="A template may hold"):
        services.start_import(dataset=dataset, file=file, mapping={"prompt": "{{ ''.__class__.__mro__() }}"})
    assert not Import.objects.exists()
