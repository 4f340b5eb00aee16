"""A stored file: opened, told by its first rows, and how its rows become drafts."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import msgspec
from django.conf import settings

from apps.accounts.models import Project
from apps.batches.models import File
from apps.conversations.codecs import CODECS
from apps.conversations.codecs.fields import KEYS, TAG_LIMIT, TOO_MANY_TAGS
from apps.conversations.errors import RowError
from apps.core.errors import DomainError
from apps.datasets.imports.accounting import FieldCounter
from apps.datasets.imports.readers import Flaw, Row
from apps.datasets.imports.row_files import ArchiveFile, RowFile, Source, unpacked_bytes
from apps.datasets.imports.shapes import COLUMNS, NAMES, Draft, detect, draft, finished
from apps.datasets.imports.templates import Mapper, guess
from apps.datasets.imports.unpacking import Budget, Enough, is_zip

__all__ = ["Reading", "Sample", "Source", "find_file", "opened", "sample"]

SAMPLE_ROWS, SAMPLE_BYTES = 100, 8 * 1024**2  # from which shape and columns are told
SAMPLE_READ_BYTES = 32 * 1024**2  # that a sample may unpack or scan, in search of rows


@dataclass(frozen=True, slots=True)
class Sample:
    """What the first rows tell of a file."""

    format: str
    shape: str
    columns: list[str]
    rows: list[Row]
    flaws: list[Flaw]
    notes: list[str]
    """Sentences on what is read of the file and what is not, as far as the first rows tell."""


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
        """Raises `RowError`, with the row's place where it has one."""
        try:
            made = self._mapped(row, self._mapper) if self._mapper else draft(row, self.shape)
        except RowError as error:
            if row.place:
                raise RowError(f"{row.place}: {error}", error.code) from error
            raise
        return _tagged(made, row.split) if row.split else made

    def _mapped(self, row: Row, mapper: Mapper) -> Draft:
        unused: set[str] = set()
        return finished(row, mapper.read(row.values, unused), unused)


def _tagged(made: Draft, split: str) -> Draft:
    """The split is a tag of every row: where there is no place left, the row's last makes room, which is counted."""
    others = [tag for tag in made.conversation.tags if tag != split]
    if len(others) >= TAG_LIMIT:
        made.unused.add(TOO_MANY_TAGS)
    tags = (*others[: TAG_LIMIT - 1], split)
    return replace(made, conversation=msgspec.structs.replace(made.conversation, tags=tags))


@contextmanager
def opened(file: File, budget: Budget | None = None) -> Iterator[Source]:
    """Raises `DomainError` for a file that is gone, or of a format that cannot be read."""
    try:
        content = file.content.storage.open(str(file.content.name), "rb")
    except FileNotFoundError as error:
        raise DomainError("The file was deleted.", param="file") from error
    budget = budget or Budget(unpacked_bytes())
    with content:
        if is_zip(content):
            yield ArchiveFile(content, file.bytes, budget)
        else:
            yield RowFile(content, file.filename, file.bytes, budget)


def sample(file: File) -> Sample:
    """Raises `DomainError`."""
    budget = Budget(SAMPLE_READ_BYTES, Enough)
    with opened(file, budget) as source:
        found = list(_first(source.rows()))
        notes = source.notes
    rows = [entry for entry in found if isinstance(entry, Row)]
    flaws = [entry for entry in found if isinstance(entry, Flaw)]
    if not rows:
        why = f" Line {flaws[0].line}: {flaws[0].message}" if flaws else ""
        raise DomainError(f"The file holds no row that can be read.{why}", param="file")
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    return Sample(source.format, detect([row.values for row in rows]), columns, rows, flaws, notes)


def _first(rows: Iterator[Row | Flaw]) -> Iterator[Row | Flaw]:
    """As many as a sample takes, which is held in memory; fewer where so many are passed over."""
    size = 0
    with suppress(Enough):
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


def _mapper(mapping: dict[str, str], columns: list[str]) -> Mapper:
    if "prompt" not in mapping:
        names = ", ".join(columns[:20])
        message = f"Say which column is the prompt, as in {{'prompt': '{{{{ {columns[0]} }}}}'}}. Columns: {names}."
        raise DomainError(message, param="mapping")
    return Mapper(mapping, columns=columns, max_bytes=settings.DATASET_ROW_MAX_BYTES)
