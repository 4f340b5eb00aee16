"""Installs that go on by themselves, as in a control worker."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from apps.core import guard, leases
from apps.models.installs import duty
from apps.models.models import Install
from tests.fakes.hostile.folders import safetensors, tiny_model, write_files

WAIT_SECONDS = 60.0
ENDED = Install.ENDED


class ControlWorker:
    """Takes installs on until it is left, in threads of this process."""

    def __init__(self) -> None:
        self.keeper = leases.Keeper()

    def drive(self, install: Install, *until: str, seconds: float = WAIT_SECONDS) -> Install:
        """Until the install has one of these states; without any, until it has ended or waits for its engine."""
        wanted = until or (*ENDED, Install.Status.BOOTING)
        return self.when(install, lambda: install.status in wanted, seconds)

    def when(self, install: Install, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> Install:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{install.status}: {install.message} ({install.bytes_done} bytes)"
            duty.install_next(self.keeper)
            time.sleep(0.05)
            install.refresh_from_db()
        return install


@contextmanager
def control_worker() -> Iterator[ControlWorker]:
    worker = ControlWorker()
    try:
        yield worker
    finally:
        worker.keeper._held.clear()  # every thread sees that it has no lease, and ends
        assert duty.crew.wait(30)
        worker.keeper.close()


def children(of: int = 0) -> list[int]:
    """The processes that download now, for us or for process `of`."""
    family = {pid: _command(pid) for pid in guard.family(of or os.getpid())}
    return [pid for pid, line in family.items() if b"apps.models.installs.download" in line and b"guard.py" not in line]


def folder(repo: str, commit: str) -> Path:
    return Path(settings.MODELS_DIR) / repo.replace("/", "--") / commit


def sparse_model(parent: Path, size: int = 3 * 10**9) -> Path:
    """A folder whose weights take seconds to read, and no place on the disk."""
    entries = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    write_files(parent / "sparse", tiny_model() | {"model.safetensors": safetensors(entries, 0)})
    with (parent / "sparse" / "model.safetensors").open("ab") as sparse:
        sparse.truncate(sparse.tell() + size)
    return parent / "sparse"


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
