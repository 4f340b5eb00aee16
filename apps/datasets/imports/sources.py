"""A stored file as a source of rows, whatever its format and storage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any

from django.conf import settings

from apps.accounts.models import Project
from apps.batches.models import File
from apps.conversations.codecs import CODECS
from apps.conversations.codecs.fields import KEYS
from apps.core.errors import DomainError
from apps.datasets.imports.accounting import FieldCounter
from apps.datasets.imports.parquet import ParquetReader
from apps.datasets.imports.readers import HEAD, Flaw, Row, format_of, read_csv, read_jsonl
from apps.datasets.imports.shapes import COLUMNS, NAMES, Draft, detect, draft, finished
from apps.datasets.imports.templates import Mapper, guess

SAMPLE_ROWS, SAMPLE_BYTES = 100, 8 * 1024**2  # from which shape and columns are told
UNPACKED = 4  # a Parquet file may unpack to so many times FILE_MAX_BYTES


class Source:
    """An open file."""

    def __init__(self, content: Any, format_: str, size: int, path: Path | None) -> None:
        self.format, self.size = format_, size
        self._content = content
        self._parquet = None if path is None else _parquet(path)

    @property
    def done(self) -> int:
        """Bytes of `size` that were read; of Parquet, in proportion to the rows."""
        if self._parquet is None:
            return int(self._content.tell())
        return self.size * self._parquet.done // max(self._parquet.total, 1)

    def rows(self) -> Iterator[Row | Flaw]:
        """Raises `DomainError` where nothing further can be read."""
        limit = settings.DATASET_ROW_MAX_BYTES
        if self._parquet is not None:
            return self._parquet.rows()
        read = read_csv if self.format == "csv" else read_jsonl
        return read(self._content, row_bytes=limit)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the first rows tell of a file."""

    format: str
    shape: str
    columns: list[str]
    rows: list[Row]
    flaws: list[Flaw]


class Reading:
    """How the rows of a file become drafts: by a shape, or by a mapping of its columns."""

    def __init__(self, sample: Sample, *, shape: str = "", mapping: dict[str, str] | None = None) -> None:
        """`shape` is detected where it is empty, the mapping guessed. Raises `DomainError` for what cannot be used."""
        self.shape = shape or (COLUMNS if mapping else sample.shape)
        if self.shape not in NAMES:
            names = ", ".join(NAMES)
            raise DomainError(f"There is no shape {self.shape[:40]!r}; choose from {names}.", param="shape")
        if mapping and self.shape != COLUMNS:
            raise DomainError(f"A mapping is for the shape 'columns', not for {self.shape!r}.", param="mapping")
        self.mapping: dict[str, str] = {}
        self._mapper: Mapper | None = None
        if self.shape == COLUMNS:
            self.mapping = mapping or guess(sample.columns)
            self._mapper = _mapper(self.mapping, sample.columns)

    def counter(self) -> FieldCounter:
        return FieldCounter(self.uses, verbatim=self._mapper is None)

    @property
    def uses(self) -> dict[str, str]:
        """The columns that are read, with what each becomes; of those that may say a row's own id, the first counts."""
        known = {"tags": "tags", **dict.fromkeys(KEYS, "key")}
        if self._mapper is None:
            return known | dict(CODECS[self.shape].columns)
        mapped = self._mapper.uses
        fixed = {name: each for name, each in known.items() if each not in self.mapping}
        return fixed | mapped

    def draft(self, row: Row) -> Draft:
        """Raises `RowError`."""
        if self._mapper is None:
            return draft(row, self.shape)
        return finished(row, self._mapper.read(row.values))


@contextmanager
def opened(file: File) -> Iterator[Source]:
    """Raises `DomainError` for a file that is gone, or of a format that cannot be read."""
    try:
        content = file.content.storage.open(str(file.content.name), "rb")
    except FileNotFoundError as error:
        raise DomainError("The file was deleted.", param="file") from error
    with content:
        head = content.read(HEAD)
        content.seek(0)
        format_ = format_of(file.filename, head)
        if format_ == "parquet":
            with _on_disk(content) as path:
                yield Source(content, format_, file.bytes, path)
        else:
            yield Source(content, format_, file.bytes, None)


def sample(file: File) -> Sample:
    """Raises `DomainError`."""
    with opened(file) as source:
        found = list(_first(source.rows()))
    rows = [entry for entry in found if isinstance(entry, Row)]
    flaws = [entry for entry in found if isinstance(entry, Flaw)]
    if not rows:
        why = f" Line {flaws[0].line}: {flaws[0].message}" if flaws else ""
        raise DomainError(f"The file holds no row that can be read.{why}", param="file")
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    return Sample(source.format, detect([row.values for row in rows]), columns, rows, flaws)


def _first(rows: Iterator[Row | Flaw]) -> Iterator[Row | Flaw]:
    """As many as a sample takes, which is held in memory."""
    size = 0
    for count, row in enumerate(rows, start=1):
        yield row
        size += len(row.text) if isinstance(row, Row) else 0
        if count == SAMPLE_ROWS or size > SAMPLE_BYTES:
            return


def find_file(project: Project, uid: str) -> File:
    """Raises `DomainError` unless it is the project's, and there."""
    file = File.objects.of(project).filter(uid=uid).first()
    if file is None:
        raise DomainError("The file was deleted.", param="file")
    return file


def _parquet(path: Path) -> ParquetReader:
    return ParquetReader(
        path, row_bytes=settings.DATASET_ROW_MAX_BYTES, unpacked_bytes=UNPACKED * settings.FILE_MAX_BYTES
    )


def _mapper(mapping: dict[str, str], columns: list[str]) -> Mapper:
    if "prompt" not in mapping:
        names = ", ".join(columns[:20])
        message = f"Say which column is the prompt, as in {{'prompt': '{{{{ {columns[0]} }}}}'}}. Columns: {names}."
        raise DomainError(message, param="mapping")
    return Mapper(mapping, columns=columns, max_bytes=settings.DATASET_ROW_MAX_BYTES)


@contextmanager
def _on_disk(content: Any) -> Iterator[Path]:
    """Where another process finds it: storages that are no folder get a copy."""
    try:
        path = content.file.name if isinstance(content.file.name, str) else ""
    except AttributeError:
        path = ""
    if path and Path(path).is_file():
        yield Path(path)
        return
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="reading.") as copy:
        copyfileobj(content, copy)
        copy.flush()
        yield Path(copy.name)
