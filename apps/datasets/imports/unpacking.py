"""The bytes of a file as UTF-8 without compression: gzip, zstd, and UTF-16 with its mark.

Nothing is unpacked to a disk or held; a budget bounds what comes out. zstd is read with pyarrow, which Parquet needs
anyway: Python has it from 3.14 on. Its windows are at most 128 MiB, which is libzstd's own bound.
"""

import codecs
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa

from apps.core.errors import DomainError
from apps.datasets.imports.readers import BLOCK, HEAD

ZIP = b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SUFFIXES = (".gz", ".zst", ".zstd")

REFUSED = {
    codecs.BOM_UTF32_LE: "The file is UTF-32: save it as UTF-8.",
    codecs.BOM_UTF32_BE: "The file is UTF-32: save it as UTF-8.",
    b"BZh": "The file is compressed with bzip2: use gzip or zstd, or upload it unpacked.",
    b"\xfd7zXZ\0": "The file is compressed with xz: use gzip or zstd, or upload it unpacked.",
    b"\x04\x22\x4d\x18": "The file is compressed with lz4: use gzip or zstd, or upload it unpacked.",
    b"7z\xbc\xaf\x27\x1c": "The file is a 7z archive: pack its files as .zip, or upload them unpacked.",
    b"Rar!\x1a\x07": "The file is a RAR archive: pack its files as .zip, or upload them unpacked.",
    b"\xd0\xcf\x11\xe0": "The file is a document of an old Office program: save it as CSV.",
    b"ARROW1": "The file is an Arrow file: write Parquet, as with `Dataset.to_parquet`.",
}
TAR_MARK, TAR_AT = b"ustar", 257
TAR = "The file is a tar archive: pack its files as .zip, or upload them unpacked."
DAMAGED = "The file cannot be unpacked: it is damaged, or not whole."


@contextmanager
def damaged() -> Iterator[None]:
    """What unpackers raise becomes a `DomainError`; a disk's own errors stay."""
    try:
        yield
    except DomainError:
        raise
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, pa.ArrowException) as error:
        raise DomainError(DAMAGED, param="file") from error
    except (NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error) as error:  # zipfile's
        raise DomainError(DAMAGED, param="file") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DomainError(DAMAGED, param="file") from error  # pyarrow's


class Enough(DomainError):
    """A file that is only looked at has been read far enough."""


class Budget:
    """How many bytes may still come out of a file, with all that it holds."""

    def __init__(self, limit: int, error: type[DomainError] = DomainError) -> None:
        self.limit = self._left = limit
        self._error = error

    def spend(self, size: int) -> None:
        """Raises `DomainError`."""
        self._left -= size
        if self._left < 0:
            raise self._error(f"The file unpacks to more than {self.limit:,} bytes: split it.", param="file")

    def again(self) -> "Budget":
        """As much, for what is packed within."""
        return Budget(self.limit, self._error)

    def widen(self, limit: int) -> None:
        """For what is needed whole."""
        if limit > self.limit:
            self._left, self.limit, self._error = self._left + limit - self.limit, limit, DomainError


class Unpacked(io.RawIOBase):
    """What `read` gives, as a stream of which the first bytes can be looked at."""

    def __init__(self, read: Callable[[int], bytes], budget: Budget) -> None:
        super().__init__()
        self._source, self._budget = read, budget
        self._front = b""

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """The first bytes, fewer than `size` at the end only. Raises `DomainError`."""
        while len(self._front) < size and (block := self._block(size - len(self._front))):
            self._front += block
        return self._front[:size]

    def readinto(self, buffer: Any) -> int:
        """Raises `DomainError`."""
        if not self._front:
            self._front = self._block(len(buffer))
        taken = self._front[: len(buffer)]
        self._front = self._front[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def _block(self, size: int) -> bytes:
        with damaged():
            block = self._source(size)
        self._budget.spend(len(block))
        return block


def unpacked(content: IO[bytes], budget: Budget, *, within: bool = False) -> tuple[IO[bytes], Callable[[int], bytes]]:
    """The bytes of a seekable file, and a look at the first of them, to be taken before any is read.

    `within` an archive, reading it unpacks it. Raises `DomainError` for what is no file of rows, or packed otherwise.
    """
    with damaged():
        head = _head(content, HEAD)
    stream = Unpacked(content.read, budget) if within else None
    if head.startswith((GZIP, ZSTD)):
        packed = io.BufferedReader(stream or Unpacked(content.read, budget.again()), BLOCK)
        read = gzip.GzipFile(fileobj=packed).read if head.startswith(GZIP) else _zstd(packed)
        stream = Unpacked(read, budget)
    if stream:
        head = stream.peek(HEAD)
    if head.startswith((GZIP, ZSTD, ZIP)):
        raise DomainError("The file holds another one that is packed, too: pack it once.", param="file")
    _refuse(head)
    if head.startswith(UTF16):
        stream = Unpacked(_Recoder((stream or content).read).read, budget)
    if stream:
        return io.BufferedReader(stream, BLOCK), stream.peek
    return content, lambda size: _head(content, size)


def _zstd(packed: IO[bytes]) -> Callable[[int], bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
    return lambda size: bytes(stream.read(size))


def is_zip(content: IO[bytes]) -> bool:
    return _head(content, len(ZIP)) in (ZIP, EMPTY_ZIP)


def _head(content: IO[bytes], size: int) -> bytes:
    head = content.read(size)
    content.seek(0)
    return head


def _refuse(head: bytes) -> None:
    """Raises `DomainError`."""
    message = next((message for mark, message in REFUSED.items() if head.startswith(mark)), "")
    if head[TAR_AT:].startswith(TAR_MARK):
        message = TAR
    if message:
        raise DomainError(message, param="file")


class _Recoder:
    """UTF-16 as UTF-8."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._decoder = codecs.getincrementaldecoder("utf-16")()

    def read(self, size: int) -> bytes:
        """Raises `DomainError` for what is no UTF-16."""
        text = ""
        while not text:
            block = self._source(max(size, 2))
            try:
                text = self._decoder.decode(block, final=not block)
                if not block:
                    break
            except UnicodeDecodeError as error:
                raise DomainError("The file is no valid UTF-16: save it as UTF-8.", param="file") from error
        return text.encode()
