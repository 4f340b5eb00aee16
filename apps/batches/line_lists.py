"""Lists that people download: lines of JSON, written while something is read, which become a file of the project."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec
from django.conf import settings

from apps.accounts.models import Project
from apps.batches import storage
from apps.batches.models import File
from apps.core.json_lines import escape_separators_in_bytes

BLOCK = 256 * 1024  # bytes

_encode = msgspec.json.Encoder().encode


class LineList:
    """It grows on the disk: memory holds none of its lines."""

    def __init__(self, lines: IO[bytes]) -> None:
        """`lines`: an empty file."""
        self._lines = lines
        self.count = 0

    def add(self, entry: Any) -> None:
        """`entry`: what JSON can hold."""
        self._lines.write(escape_separators_in_bytes(_encode(entry)) + b"\n")
        self.count += 1

    @contextmanager
    def stored(self, project: Project, filename: str) -> Iterator[File | None]:
        """All of them, stored; its row is for the caller to save, and without it the bytes are deleted. None where
        there are none. Raises `OSError`."""
        if not self.count:
            yield None
            return
        self._lines.seek(0)
        file = File(project=project, filename=filename, purpose=File.Purpose.USER_DATA)
        stored = storage.write(f"{project.uid}/{file.uid}", iter(lambda: self._lines.read(BLOCK), b""))
        file.content, file.bytes, file.sha256 = stored.name, stored.bytes, stored.sha256
        try:
            yield file
        except BaseException:
            storage.delete(stored.name)
            raise


@contextmanager
def line_list() -> Iterator[LineList]:
    """An empty one; what was not stored of it is gone afterwards."""
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="list.") as lines:
        yield LineList(lines)


def saved(file: File | None) -> File | None:
    """In the caller's transaction."""
    if file:
        file.save()
    return file
