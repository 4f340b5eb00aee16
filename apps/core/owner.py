"""Who holds a lease: a process, named so that others on the same machine can tell that it is dead."""

import os
import socket

from apps.core import guard
from apps.core.process import boot_id


def owner() -> str:
    """This process, for people who read lease rows, and for `is_dead`."""
    process = guard.read_process(os.getpid())
    assert process  # noqa: S101 (for mypy: it is us)
    return f"{socket.gethostname()}:{process.pid} started {process.start_ticks} in {_world()}"


def is_dead(owner: str) -> bool:
    """Whether that process ended, for certain. False for what cannot be seen from here."""
    name, _, rest = owner.partition(" started ")
    start_ticks, _, world = rest.partition(" in ")
    if world != _world():
        return False
    process = guard.read_process(int(name.rpartition(":")[2]))
    return process is None or process.zombie or process.start_ticks != int(start_ticks)


def _world() -> str:
    """Where pids mean the same: one boot of one kernel, and one PID namespace of it."""
    return f"{boot_id()}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 (its target is no path)
