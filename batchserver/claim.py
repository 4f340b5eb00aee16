"""One stack per VAR_DIR: whoever runs it holds a lock on `var/run/up.pid`, which the kernel drops when it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchserver.embedded import StartError

PATIENCE = 1.0  # seconds: `holder` elsewhere holds the lock for an instant


def pid_file(var: Path) -> Path:
    return var / "run" / "up.pid"


@contextmanager
def claim(var: Path) -> Iterator[None]:
    """Be the one who runs the stack of `var`. Raises StartError when somebody else is."""
    path = pid_file(var)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _lock(file.fileno()):
            raise StartError(f"The site in {var} runs already (process {path.read_text()}): stop it by `make down`.")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def holder(var: Path) -> int | None:
    """The pid of the `up` that runs the stack of `var`."""
    try:
        with pid_file(var).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        text = pid_file(var).read_text()
        return int(text) if text else None
    return None


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True
