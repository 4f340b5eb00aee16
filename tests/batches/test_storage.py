import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from apps.batches import storage

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several blocks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "incoming"
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    return tmp_path


async def read(name: str, start: int, end: int) -> bytes:
    return b"".join([block async for block in storage.open_range(name, start, end)])


async def test_it_works(folder: Path) -> None:
    stored = storage.write("project/file", [CONTENT[:10], b"", CONTENT[10:]])
    assert stored == storage.Stored("project/file", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert (folder / "project/file").read_bytes() == CONTENT
    assert await read("project/file", 0, len(CONTENT)) == CONTENT
    assert not list((folder / "incoming").iterdir())


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (0, 1), (300_000, 300_010), (len(CONTENT) - 1, len(CONTENT)), (5, 10**9)]
)
async def test_a_range_of_it(start: int, end: int) -> None:
    storage.write("file", [CONTENT])
    assert await read("file", start, end) == CONTENT[start:end]


async def test_a_reader_may_leave_early() -> None:
    storage.write("file", [CONTENT])
    blocks = storage.open_range("file", 0, len(CONTENT))
    assert await anext(blocks)
    await blocks.aclose()  # type: ignore[attr-defined] # it is a generator


async def test_a_reader_keeps_what_it_opened() -> None:
    storage.write("file", [CONTENT])
    blocks = storage.open_range("file", 0, len(CONTENT))
    storage.delete("file")
    assert b"".join([block async for block in blocks]) == CONTENT
    with pytest.raises(FileNotFoundError):
        storage.open_range("file", 0, 1)


def test_writing_again_replaces(folder: Path) -> None:
    storage.write("file", [b"old"])
    storage.write("file", [b"new"])
    assert (folder / "file").read_bytes() == b"new"


def test_it_survives_a_source_that_breaks(folder: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    storage.write("file", [b"old"])
    with pytest.raises(ConnectionError):
        storage.write("file", broken())
    assert (folder / "file").read_bytes() == b"old"
    assert not list((folder / "incoming").iterdir())


def test_other_storages_work_by_configuration(settings: Any) -> None:
    """As with S3: no folder, no rename."""
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": memory}
    stored = storage.write("project/file", [CONTENT])
    assert default_storage.open(stored.name).read() == CONTENT
    storage.delete(stored.name)
    assert not default_storage.exists(stored.name)
