"""An open file as a source of rows, whatever its format and storage: alone, or an archive of several."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

from django.conf import settings

from apps.core.errors import DomainError
from apps.datasets.imports.archives import Archive, Member
from apps.datasets.imports.formats import ZIP, format_of
from apps.datasets.imports.json_stream import read_json
from apps.datasets.imports.names import printable
from apps.datasets.imports.parquet import ParquetReader
from apps.datasets.imports.readers import BLOCK, Flaw, Row, read_csv, read_jsonl
from apps.datasets.imports.unpacking import Budget, Enough, Unpacked, unpacked

UNPACKED = 4  # a file may unpack to so many times FILE_MAX_BYTES


class Source(Protocol):
    """An open file."""

    @property
    def format(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def done(self) -> int:
        """Bytes of `size` that were read."""

    @property
    def notes(self) -> list[str]:
        """Sentences on what is read of the file and what is not; complete once all rows were taken."""

    def rows(self) -> Iterator[Row | Flaw]:
        """Raises `DomainError` where nothing further can be read."""


class RowFile:
    """A file of rows, alone or within an archive."""

    def __init__(self, content: Any, name: str, size: int, budget: Budget, *, within: bool = False) -> None:
        """Raises `DomainError` for a format that cannot be read."""
        self.size, self.notes = size, list[str]()
        self._content, self._budget, self._name = content, budget, name
        self._stream, look = unpacked(content, budget, within=within)
        self.format, self._wraps = format_of(name, look, row_bytes=settings.DATASET_ROW_MAX_BYTES)
        self._parquet: ParquetReader | None = None

    @property
    def done(self) -> int:
        """Of Parquet, in proportion to the rows."""
        if self._parquet is None:
            return int(self._content.tell())
        return self.size * self._parquet.done // max(self._parquet.total, 1)

    def rows(self) -> Iterator[Row | Flaw]:
        row_bytes = settings.DATASET_ROW_MAX_BYTES
        if self.format == "parquet":
            return self._parquet_rows()
        if self.format == "csv":
            return read_csv(self._stream, row_bytes=row_bytes)
        if self.format == "jsonl":
            return read_jsonl(self._stream, row_bytes=row_bytes)
        plain = self._stream is self._content
        stream = BufferedReader(Unpacked(self._content.read, self._budget), BLOCK) if plain else self._stream
        return read_json(stream, row_bytes=row_bytes, wraps=self._wraps, notes=self.notes)

    def _parquet_rows(self) -> Iterator[Row | Flaw]:
        self._budget.widen(unpacked_bytes())  # the file is needed whole
        with _on_disk(self._stream) as path:
            self._parquet = ParquetReader(
                path, row_bytes=settings.DATASET_ROW_MAX_BYTES, unpacked_bytes=unpacked_bytes()
            )
            yield from self._parquet.rows()


class ArchiveFile:
    """The files of rows in an archive, one after another."""

    format = ZIP

    def __init__(self, content: Any, size: int, budget: Budget) -> None:
        """Raises `DomainError`."""
        self.size = size
        self._archive, self._budget = Archive(content), budget
        self.notes = list(self._archive.notes)
        self._before = 0  # bytes of the files that were read
        self._now: tuple[Member, RowFile] | None = None

    @property
    def done(self) -> int:
        if self._now is None:
            return self._before
        member, file = self._now
        return self._before + min(member.packed * file.done // max(file.size, 1), member.packed)

    def rows(self) -> Iterator[Row | Flaw]:
        for member in self._archive.members:
            name = printable(member.name)
            try:
                with self._archive.open(member) as content:
                    file = RowFile(content, member.name, member.info.file_size, self._budget, within=True)
                    self._now = member, file
                    for row in file.rows():
                        yield row.within(name, member.split)
            except Enough:
                raise
            except DomainError as error:
                raise DomainError(f"{name}: {error.message}", param="file") from error
            self.notes += [f"{name}: {note}" for note in file.notes]
            self._before, self._now = self._before + member.packed, None


def unpacked_bytes() -> int:
    """What a file may unpack to."""
    return UNPACKED * settings.FILE_MAX_BYTES


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
