"""The files of rows in a .zip archive: a folder of the Hugging Face hub, our own export, or a file packed alone.

Nothing is extracted to a path. What an archive holds besides rows is listed, not read; an archive in it is refused.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from apps.core.errors import DomainError
from apps.datasets.imports.formats import FORMATS, suffix_of
from apps.datasets.imports.names import listed, split_of
from apps.datasets.imports.unpacking import damaged

DIRECTORY_BYTES = 2 * 1024**2  # of the list of files, which is held in memory
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may take gigabytes for a few bytes
ENCRYPTED = 1  # a bit of an entry's flags
ABOUT = (
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "manifest.json",
    "croissant.json",
)
"""JSON that describes rows."""
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".gz", ".zst", ".zstd")
SPREADSHEETS = ("xl/workbook.xml", "content.xml")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Member:
    """A file of rows."""

    info: zipfile.ZipInfo
    split: str
    """"" unless the files are of several."""

    @property
    def name(self) -> str:
        return self.info.filename

    @property
    def packed(self) -> int:
        """Bytes within the archive."""
        return self.info.compress_size


class Archive:
    """Raises `DomainError` for an archive that cannot be read, or whose rows cannot be told from other things."""

    def __init__(self, content: IO[bytes]) -> None:
        with damaged():
            self._zip = zipfile.ZipFile(_Careful(content))
        files = [info for info in self._zip.infolist() if not info.is_dir()]
        rows = [info for info in files if _holds_rows(info.filename)]
        texts = {info.filename for info in rows if suffix_of(info.filename) == ".txt"}
        if len(texts) < len(rows):
            rows = [info for info in rows if info.filename not in texts]
        _check([info.filename for info in files], rows)
        splits = {info.filename: split_of(info.filename) for info in rows}
        several = len(set(splits.values())) > 1
        found = [Member(info, splits[info.filename] if several else "") for info in rows]
        self.members = sorted(found, key=_order)
        others = {info.filename for info in files} - splits.keys()
        self.notes = [f"Rows are read from {listed([member.name for member in self.members])}."]
        if several:
            named = dict.fromkeys(member.split for member in self.members if member.split)
            self.notes.append(f"Their splits: {', '.join(named)}.")
        if others:
            self.notes.append(f"Not read: {listed(sorted(others))}.")

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """Raises `DomainError`."""
        with damaged():
            content = self._zip.open(member.info)
        with content:
            yield content


class _Careful(io.RawIOBase):
    """A file as `zipfile` reads it, which takes the list of files whole."""

    def __init__(self, content: IO[bytes]) -> None:
        super().__init__()
        self._content = content

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()

    def read(self, size: int | None = -1) -> bytes:
        """Raises `DomainError` where more is asked for than is ever needed at once."""
        if size is None or size < 0:
            size = DIRECTORY_BYTES  # the end of the file, where the list of files is looked for
        if size > DIRECTORY_BYTES:
            raise DomainError("The archive holds too many files: pack fewer, or longer ones.", param="file")
        return self._content.read(size)


def _holds_rows(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts) or path.name.startswith("_")
    about = path.name.lower() in ABOUT or path.stem.upper() in ("README", "LICENSE", "NOTICE", "CHANGELOG")
    return suffix_of(name) in FORMATS and not hidden and not about


def _check(names: list[str], rows: list[zipfile.ZipInfo]) -> None:
    """Raises `DomainError`."""
    if any(name in SPREADSHEETS for name in names):
        raise DomainError("The file is a spreadsheet: save it as CSV.", param="file")
    inner = next((name for name in names if name.lower().endswith(ARCHIVES) and suffix_of(name) not in FORMATS), None)
    if inner:
        raise DomainError(f"The archive holds another one, {inner[:100]!r}: unpack it first.", param="file")
    if not rows:
        arrow = any(name.endswith(".arrow") for name in names)
        cure = "Write Parquet, as with `Dataset.to_parquet`." if arrow else f"Pack {', '.join(FORMATS)}."
        raise DomainError(f"The archive holds no file of rows: {listed(names) or 'nothing'}. {cure}", param="file")
    kinds = {_family(info.filename): info.filename for info in reversed(rows)}
    if len(kinds) > 1:
        message = f"The archive holds rows in several formats, as {listed(sorted(kinds.values()))}: keep those of one."
        raise DomainError(message, param="file")
    for info in rows:
        _check_member(info)
    if len({info.filename for info in rows}) < len(rows):
        raise DomainError("Two files in the archive have the same name: keep one.", param="file")


def _check_member(info: zipfile.ZipInfo) -> None:
    """Raises `DomainError`."""
    name = repr(info.filename[:100])
    if info.flag_bits & ENCRYPTED:
        raise DomainError(f"{name} is encrypted: pack it without a password.", param="file")
    if info.compress_type not in METHODS:
        raise DomainError(f"{name} is packed in a way that cannot be read: pack it with Deflate.", param="file")


def _family(name: str) -> str:
    return FORMATS[suffix_of(name)].removesuffix("l")


def _order(member: Member) -> tuple[Any, ...]:
    """Train, validation and test first; then by name, "part-2" before "part-10"."""
    rank = next((at for at, split in enumerate(SPLITS) if member.split.startswith(split)), len(SPLITS))
    pieces = re.split(r"(\d{1,18})", member.name)
    return rank, member.split, [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
