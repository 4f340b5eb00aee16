"""The rows of a Parquet file, unpacked by a process without rights or secrets (`imports.parquet_rows`)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from django.conf import settings

from apps.conversations.errors import RowError
from apps.core import guard
from apps.core.errors import DomainError
from apps.datasets.imports.readers import Flaw, Row, checked, decoded

DIED = "The Parquet file cannot be read: it is damaged, or needs more memory than a file may."
ENVELOPE = 64  # bytes around a row
STOP_SECONDS = 10
PIPE_BYTES = 1024**2  # read at once


class _Line(msgspec.Struct):
    """See `apps.datasets.imports.parquet_rows`."""

    rows: int | None = None
    row: msgspec.Raw | None = None
    flaw: str = ""
    error: str = ""


class ParquetReader:
    """Iterate over `rows()`; `done` and `total` count rows, as far as they are known."""

    def __init__(self, path: Path, *, row_bytes: int, unpacked_bytes: int) -> None:
        self._path, self._row_bytes, self._unpacked_bytes = path, row_bytes, unpacked_bytes
        self.done = 0
        self.total = 0

    def rows(self) -> Iterator[Row | Flaw]:
        """Raises `DomainError` for a file that cannot be read, or unpacks to more bytes than allowed."""
        with _child(self._path, self._row_bytes, self._unpacked_bytes) as output:
            while raw := output.readline(self._row_bytes + ENVELOPE):
                yield from self._read(raw)
        if self.done < self.total or not self.total:
            raise DomainError(DIED if self.total else "The file holds no row.", param="file")

    def _read(self, raw: bytes) -> Iterator[Row | Flaw]:
        try:
            line = msgspec.json.decode(raw, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            line = _Line(row=msgspec.Raw(raw[len(b'{"row": ') : -len(b"}\n")]))  # `decoded` says what is wrong with it
        if line.error:
            raise DomainError(line.error, param="file")
        if line.rows is not None:
            self.total = line.rows
            return
        self.done += 1
        try:
            text = bytes(line.row or b"")
            yield Flaw(self.done, line.flaw) if line.flaw else checked(self.done, decoded(text), text)
        except RowError as error:
            yield Flaw(self.done, str(error))


@contextmanager
def _child(path: Path, row_bytes: int, unpacked_bytes: int) -> Iterator[IO[bytes]]:
    """Its output. Whoever dies first, nothing of it is left."""
    command = [
        sys.executable,
        "-m",
        "apps.datasets.imports.parquet_rows",
        str(path),
        str(row_bytes),
        str(unpacked_bytes),
    ]
    wrapped = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "-1", "-1"]
    process = subprocess.Popen(
        [*wrapped, *command], env={"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}, cwd=settings.BASE_DIR,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        bufsize=PIPE_BYTES,
    )  # fmt: skip
    assert process.stdout  # noqa: S101 (for mypy: Popen was given a pipe)
    try:
        with process.stdout as output:
            yield output
            process.wait(STOP_SECONDS)
    finally:
        if process.poll() is None:
            guard.kill_family(process.pid, STOP_SECONDS)
            process.wait(STOP_SECONDS)
