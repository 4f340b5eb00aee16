"""Child processes that cannot be left behind: engines, trainers and the servers of the stack run in these.

In charge of: starting, reading the output, stopping, and clearing what a killed owner left. Not in charge of:
whether the child is ready or healthy, and whether it should be started again.
"""

import collections
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from apps.core import guard

TAIL_LINES = 200
LINE_BYTES = 64 * 1024  # a longer line is cut there
LOG_BYTES = 20 * 1024**2  # a longer log moves to NAME.1, once
KILL_SECONDS = 5.0
DRAIN_SECONDS = 1.0  # for what a dead child left in the pipe, should an orphan hold the other end

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """All that one ManagedProcess started, named so that a later process can find it: keep it on a row."""

    host: str
    boot_id: str
    pgid: int
    """The guard's pid, which is its session's and group's id too."""
    start_ticks: int
    """When the guard started, in clock ticks since boot."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """The group led by our child `pid`. Raises ProcessLookupError if it was waited for already."""
        process = guard.read_process(pid)
        if process is None:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(socket.gethostname(), boot_id(), pid, process.start_ticks)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str()`. Raises ValueError."""
        host, boot, pgid, start_ticks = text.split()
        return cls(host, boot, int(pgid), int(start_ticks))

    def __str__(self) -> str:
        return f"{self.host} {self.boot_id} {self.pgid} {self.start_ticks}"

    def reap(self, timeout: float) -> bool:
        """KILL what is left of the group on this host. False when some of it is there after `timeout` seconds.

        Never by name, and never a process that merely got the same pid: a group of another host or boot is
        left alone, and so is a pid with another start. Where the leader is gone, its id is free for a new
        process only once the whole session has ended, so the session's members are the group's.
        """
        if (self.host, self.boot_id) != (socket.gethostname(), boot_id()):
            return True
        leader = guard.read_process(self.pgid)
        if leader and leader.start_ticks != self.start_ticks:
            return True
        return guard.kill_family(self.pgid, timeout)


def boot_id() -> str:
    """The kernel's random name for the time since this host started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class ManagedProcess:
    """One child in a session of its own, under a guard (`apps.core.guard`) that clears up after it.

    Whichever is killed (this process, the guard, the child), nothing runs on for more than
    `guard.GRACE_SECONDS`. The child's output is read by a thread: the last lines are kept, all of it goes to
    `log`, and `on_line` is called in that thread for each line.
    """

    def __init__(  # noqa: PLR0913 (they are Popen's, and told apart by name)
        self,
        command: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str],
        cwd: Path,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        stop_signal: int = signal.SIGTERM,
        user: int | None = None,
        group: int | None = None,
        stdin: bytes = b"",
    ) -> None:
        """`env` is the child's whole environment; `user` and `group` are numeric ids, for root only.

        `stdin` is for what nobody else may read: unlike arguments and environment it is not in the process table.
        """
        self.name = name
        self._command = list(command)
        self._env = dict(env)
        self._cwd = cwd
        self._log = _Log(log) if log else None
        self._on_line = on_line
        self._stop_signal = stop_signal
        self._stdin = stdin
        self._ids = (-1 if user is None else user, -1 if group is None else group)
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._group: ProcessGroup | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The guard's pid. Signals sent to it reach the child. Raises RuntimeError before `start()`."""
        return self.group.pgid

    @property
    def group(self) -> ProcessGroup:
        """What to record, for a later owner to reap. Raises RuntimeError before `start()`."""
        if self._group is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._group

    def start(self) -> None:
        """Start the child. A command that cannot run shows as exit code 127.

        Any thread may call this, and may end while the child runs. Raises RuntimeError if the child runs already.
        """
        if self.poll() is None and self._process:
            raise RuntimeError(f"{self.name} runs already, as process {self.pid}")
        if self._reader:
            self._reader.join()
        wrapped = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(int(self._stop_signal))]
        wrapped += [str(number) for number in self._ids] + self._command
        with _in_memory(self._stdin) as stdin:
            self._process = subprocess.Popen(
                wrapped, env=self._env, cwd=self._cwd, start_new_session=True,
                stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._group = ProcessGroup.of(self._process.pid)
        pidfd = os.pidfd_open(self._process.pid)  # here, before anyone can have waited for the process
        self._reader = threading.Thread(target=self._read, args=[self._process, pidfd], daemon=True)
        self._reader.start()

    def poll(self) -> int | None:
        """The exit code, -N for signal N; None while the child runs or before `start()`."""
        return self._process.poll() if self._process else None

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code once the child has ended and its last output is read; None after `timeout` seconds."""
        if not self._process or not self._reader:
            return None
        deadline = None if timeout is None else time.monotonic() + timeout
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
            self._reader.join(None if deadline is None else max(deadline - time.monotonic(), DRAIN_SECONDS))
        return self._process.poll()

    def stop(self, timeout: float) -> None:
        """Send the stop signal, and KILL all that is left after `timeout` seconds. May be called twice."""
        if not self._process:
            return
        self._process.send_signal(self._stop_signal)
        if self.wait(timeout) is None:
            logger.warning("%s did not stop within %g s and is killed", self.name, timeout)
        self.group.reap(KILL_SECONDS)
        self.wait(KILL_SECONDS)

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines of output, the latest last; at most TAIL_LINES are kept."""
        return list(self._tail)[-lines:]

    def _read(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        """The thread: read until the child is dead and the pipe is empty."""
        assert process.stdout  # noqa: S101 (for mypy: Popen was given a pipe)
        with process.stdout as pipe:
            rest = self._pump(pipe.fileno(), pidfd)
            if rest:
                self._take(rest)
        os.close(pidfd)
        process.wait()

    def _pump(self, pipe: int, pidfd: int) -> bytes:
        """Hand on line after line until the end. Returns the last one if it has no line feed."""
        rest = b""
        deadline = None
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while deadline is None or time.monotonic() < deadline:
            ready = [file for file, _ in poll.poll(DRAIN_SECONDS * 1000)]
            if pidfd in ready:  # the guard is dead; if it was killed, it could not clear up
                self.group.reap(KILL_SECONDS)
                deadline = time.monotonic() + DRAIN_SECONDS
                poll.unregister(pidfd)
            if pipe in ready:
                chunk = os.read(pipe, LINE_BYTES)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
                if len(rest) >= LINE_BYTES:
                    self._take(rest)
                    rest = b""
        return rest

    def _take(self, raw: bytes) -> None:
        """One line of output. Nothing that goes wrong with it may stop the reading: the child would block."""
        line = raw.decode(errors="replace").rstrip("\r")
        self._tail.append(line)
        try:
            if self._log:
                self._log.write(raw + b"\n")
            if self._on_line:
                self._on_line(line)
        except Exception:
            logger.exception("a line of %s was not handled", self.name)


def _in_memory(content: bytes) -> BinaryIO:
    """A file with that content and no name."""
    file = os.fdopen(os.memfd_create("stdin"), "w+b")
    file.write(content)
    file.seek(0)
    return file


class _Log:
    """A file that is appended to, and starts anew when it has grown too long; one generation is kept."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)
            full = file.tell() > LOG_BYTES
        if full:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
