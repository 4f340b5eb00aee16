"""Where files' bytes live: Django's default storage, which is a folder of ours or, by configuration, S3.

A name exists with all its bytes or not at all: they are written beside, made durable, and renamed in the last step.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkstemp

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage

from apps.core.api.streaming import stream

BLOCK = 256 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Stored:
    name: str
    bytes: int
    sha256: str
    """In hex."""


def write(name: str, chunks: Iterable[bytes]) -> Stored:
    """Store the chunks under `name`, in place of what was there. Raises `OSError`; then nothing has changed."""
    digest, size = hashlib.sha256(), 0
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
    descriptor, draft = mkstemp(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="writing.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                size += file.write(chunk)
        return adopt(name, Path(draft), size=size, sha256=digest.hexdigest())
    finally:
        Path(draft).unlink(missing_ok=True)


def adopt(name: str, draft: Path, *, size: int, sha256: str) -> Stored:
    """Store a complete file that lies in `FILE_UPLOAD_TEMP_DIR`, by a rename where the storage is a folder."""
    with draft.open("rb") as file:
        if isinstance(default_storage, FileSystemStorage):
            os.fsync(file.fileno())
            _rename(draft, Path(default_storage.path(name)))
        else:
            name = default_storage.save(name, File(file))
    return Stored(name, size, sha256)


def check_room(size: int) -> None:
    """Raises `OSError` where a folder has no room for so many bytes now."""
    if isinstance(default_storage, FileSystemStorage) and shutil.disk_usage(settings.FILES_DIR).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read(name: str) -> Iterator[bytes]:
    """All of a file's bytes, a block at a time. Raises `FileNotFoundError`."""
    with default_storage.open(name, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def delete(name: str) -> None:
    default_storage.delete(name)


def open_range(name: str, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes from `start` up to, not including, `end`, even if the file is deleted meanwhile.

    Raises `FileNotFoundError`.
    """
    return stream(partial(_read, default_storage.open(name, "rb"), start, end))


def _read(file: File[bytes], start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (block := file.read(min(BLOCK, end - start))):
            start += len(block)
            yield block


def _rename(draft: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # without this the rename itself may be lost
    finally:
        os.close(folder)
