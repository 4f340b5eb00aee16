"""The process that stands between us and a command we run, so that nothing of it can outlive us.

    python -I -S guard.py PARENT STOP_SIGNAL USER GROUP COMMAND [ARGUMENT ...]

vLLM's EngineCore and Worker processes survive a `kill -9` of their API server and keep its memory. The guard
is the leader of a session with the command in it, and the reaper of every process that the command orphans. It
hands signals on to the command. When the command ends, or when PARENT (its own parent) is gone, it kills whatever
is left, and ends with the command's own status. A guard that is itself killed takes the command along
(parent-death signal); the rest of the session is then cleared by `apps.core.process`.
Linux only; standard library only, as it runs without site.

USER and GROUP are numeric ids to run the command as, -1 for the guard's own.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36

GRACE_SECONDS = 5.0  # from the parent's death to KILL; the command gets its stop signal first
KILL_SECONDS = 5.0  # a killed process that is still there after this hangs in the kernel
TICK_SECONDS = 1.0  # how often the parent is looked at, should its death go unheard

PARENT_DIED = signal.SIGRTMIN
FORWARDED = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
WATCHED = {*FORWARDED, signal.SIGCHLD, PARENT_DIED}


class Process(NamedTuple):
    """One row of the process table."""

    pid: int
    parent: int
    session: int
    zombie: bool
    start_ticks: int  # since boot; with the pid, the identity of a process


def read_process(pid: int) -> Process | None:
    """The process `pid`; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return Process(pid, int(fields[1]), int(fields[3]), fields[0] in "ZX", int(fields[19]))


def family(leader: int) -> set[int]:
    """The living pids of the session of `leader`, and of everything that descends from them."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208 (Path is slower here)
    table = [process for pid in pids if (process := read_process(pid)) and not process.zombie]
    found = {process.pid for process in table if leader in (process.pid, process.session)}
    while more := {process.pid for process in table if process.parent in found} - found:
        found |= more
    return found


def kill_family(leader: int, seconds: float) -> bool:
    """KILL the family of `leader`, but not the caller, until none is left. False if some are after `seconds`."""
    deadline = time.monotonic() + seconds
    while pids := family(leader) - {os.getpid()}:
        if time.monotonic() > deadline:
            return False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return True


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def become(command: list[str], guard: int, user: int, group: int) -> None:
    """Turn this forked child into the command. Returns only by an exception."""
    if group >= 0:
        os.setgroups([])
        os.setgid(group)
    if user >= 0:
        os.setuid(user)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after setuid, which clears it
    if os.getppid() != guard:
        os._exit(1)
    for number in {*WATCHED, signal.SIGPIPE, signal.SIGXFSZ}:  # Python and shells leave some of these ignored
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.execvp(command[0], command)  # noqa: S606 (that is what we are for)


def spawn(command: list[str], user: int, group: int) -> int:
    """Start the command. Returns its pid."""
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            become(command, guard, user, group)
        except BaseException as error:
            print(f"{command[0]} did not start: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(127)
    return child


def collect(child: int) -> int | None:
    """Bury the dead, adopted ones too. The exit code of `child` if it is among them, -N for signal N."""
    with contextlib.suppress(ChildProcessError):
        while pair := os.waitpid(-1, os.WNOHANG):
            if pair[0] == child:
                return os.waitstatus_to_exitcode(pair[1])
            if pair[0] == 0:
                break
    return None


def watch(child: int, parent: int, stop_signal: int) -> int:
    """Hand signals on until `child` has ended, or has outstayed the death of `parent`. Returns the exit code."""
    deadline = None
    while True:
        caught = signal.sigtimedwait(WATCHED, TICK_SECONDS)
        if (code := collect(child)) is not None:
            return code
        if caught and caught.si_signo in FORWARDED:
            os.kill(child, caught.si_signo)
        if os.getppid() == parent:  # the parent-death signal also comes when a mere thread of the parent ends
            continue
        if deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
            os.kill(child, stop_signal)
        elif time.monotonic() > deadline:
            return -signal.SIGKILL


def end_like(code: int) -> int:
    """End this process by the signal that `code` names; otherwise return `code`."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.kill(os.getpid(), -code)
    return abs(code)


def main(arguments: list[str]) -> int:
    """Guard one command from start to end. Returns its exit code."""
    parent, stop_signal, user, group = (int(argument) for argument in arguments[:4])
    for number in WATCHED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, PARENT_DIED)
    if os.getppid() != parent:  # it died before the line above
        return 1
    child = spawn(arguments[4:], user, group)
    code = watch(child, parent, stop_signal)
    kill_family(os.getpid(), KILL_SECONDS)
    return end_like(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
