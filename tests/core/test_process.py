import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.core import guard, process
from apps.core.process import ManagedProcess, ProcessGroup

# A child with two children of its own that ignore TERM, one of them in another session. It ends when the first does.
FAMILY = "trap 'exit 7' TERM; (trap '' TERM; exec sleep 600) & (trap '' TERM; exec setsid sleep 601) & wait $!; wait %1"
NO_ORPHAN_SECONDS = 10

Start = Callable[..., ManagedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a line of shell; everything is gone after the test."""
    started: list[ManagedProcess] = []

    def start(line: str, **options: Any) -> ManagedProcess:
        defaults: dict[str, Any] = {"name": "test", "env": {"PATH": os.environ["PATH"]}, "cwd": tmp_path}
        child = ManagedProcess(["sh", "-c", line], **(defaults | options))
        started.append(child)
        child.start()
        return child

    yield start
    for child in started:
        child.stop(0)


def eventually(condition: Callable[[], Any], seconds: float = NO_ORPHAN_SECONDS) -> bool:
    """Whether the condition becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def find(group: ProcessGroup, command: str) -> int:
    """The pid of the member of the group that runs `command`; 0 for none."""
    for pid in guard.family(group.pgid):
        with suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().startswith(command):
                return pid
    return 0


def kill(group: ProcessGroup, command: str) -> None:
    pid = find(group, command)
    assert pid, f"{command} does not run"
    os.kill(pid, signal.SIGKILL)


def wait_for_family(group: ProcessGroup) -> set[int]:
    """All four pids of a FAMILY that is up: guard, shell and the two sleepers."""
    assert eventually(lambda: find(group, "sleep 600") and find(group, "sleep 601"))
    return guard.family(group.pgid)


def all_gone(pids: set[int]) -> bool:
    return all((row := guard.read_process(pid)) is None or row.zombie for pid in pids)


def test_it_works(start: Start, tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log" / "child.log"
    child = start("echo one; echo two >&2; printf three; exit 5", log=log, on_line=lines.append)
    assert child.wait(10) == 5
    assert child.poll() == 5
    assert child.tail() == lines == ["one", "two", "three"]
    assert child.tail(1) == ["three"]
    assert log.read_text() == "one\ntwo\nthree\n"


def test_it_gives_the_child_no_other_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    child = start("env")
    child.wait(10)
    assert "DATABASE_URL" not in "\n".join(child.tail())


def test_it_reports_a_command_that_is_not_there(tmp_path: Path) -> None:
    child = ManagedProcess(["/no/such/program"], name="test", env={}, cwd=tmp_path)
    child.start()
    assert child.wait(10) == 127
    assert "/no/such/program did not start" in child.tail()[-1]


def test_it_reports_the_signal_that_ended_the_child(start: Start) -> None:
    assert start("kill -SEGV $$").wait(10) == -signal.SIGSEGV


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1])
def test_it_stops_with_the_exact_signal(start: Start, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    child = start(f"trap 'echo got {name}; exit 3' {name}; echo up; while :; do sleep 0.05; done", stop_signal=number)
    assert eventually(child.tail)
    child.stop(10)
    assert child.poll() == 3
    assert child.tail()[-1] == f"got {name}"


def test_it_stops_twice_and_before_the_start(start: Start, tmp_path: Path) -> None:
    child = start("exec sleep 600")
    child.stop(5)
    child.stop(5)
    assert child.poll() == -signal.SIGTERM
    ManagedProcess(["true"], name="never", env={}, cwd=tmp_path).stop(5)


def test_it_starts_again_after_its_end(start: Start) -> None:
    child = start("echo up")
    child.wait(10)
    child.start()
    assert child.wait(10) == 0
    assert child.tail() == ["up", "up"]


def test_it_rejects_a_second_start(start: Start) -> None:
    child = start("exec sleep 600")
    with pytest.raises(RuntimeError, match="runs already"):
        child.start()


def test_it_rejects_a_group_that_was_never_started(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="was not started"):
        _ = ManagedProcess(["true"], name="never", env={}, cwd=tmp_path).group


def test_it_kills_what_ignores_the_stop_signal(start: Start) -> None:
    child = start(FAMILY.replace("trap 'exit 7' TERM", "trap '' TERM"))
    pids = wait_for_family(child.group)
    child.stop(0.2)
    assert child.poll() == -signal.SIGKILL
    assert all_gone(pids)


def test_it_leaves_nothing_when_the_child_ends(start: Start) -> None:
    child = start(FAMILY)
    pids = wait_for_family(child.group)
    child.stop(5)
    assert child.poll() == 7
    assert all_gone(pids)


def test_it_survives_kill_of_the_child(start: Start) -> None:
    child = start(FAMILY)
    pids = wait_for_family(child.group)
    kill(child.group, "sh -c")
    assert child.wait(NO_ORPHAN_SECONDS) == -signal.SIGKILL
    assert all_gone(pids)


def test_it_survives_kill_of_a_grandchild(start: Start) -> None:
    child = start(FAMILY)
    pids = wait_for_family(child.group)
    kill(child.group, "sleep 600")
    kill(child.group, "sleep 601")
    assert child.wait(NO_ORPHAN_SECONDS) is not None
    assert all_gone(pids)


def test_it_survives_kill_of_the_guard(start: Start) -> None:
    child = start("(trap '' TERM; exec sleep 600) & sleep 602; true")
    assert eventually(lambda: find(child.group, "sleep 600") and find(child.group, "sleep 602"))
    pids = guard.family(child.group.pgid)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(NO_ORPHAN_SECONDS) == -signal.SIGKILL
    assert eventually(lambda: all_gone(pids))


WORKER = """
import os, time
from pathlib import Path
from apps.core.process import ManagedProcess
child = ManagedProcess(["sh", "-c", {line!r}], name="child", env=dict(os.environ), cwd=Path("/"))
child.start()
print(child.group, flush=True)
time.sleep(600)
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has started a FAMILY, and prints its group."""
    command = [sys.executable, "-c", WORKER.format(line=FAMILY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        yield worker
        worker.kill()


def read_group(worker: subprocess.Popen[str]) -> ProcessGroup:
    assert worker.stdout
    return ProcessGroup.parse(worker.stdout.readline())


def test_it_survives_kill_of_the_worker(worker: subprocess.Popen[str]) -> None:
    pids = wait_for_family(read_group(worker))
    worker.kill()
    assert eventually(lambda: all_gone(pids))


def test_a_later_owner_reaps_what_worker_and_guard_left(worker: subprocess.Popen[str]) -> None:
    group = read_group(worker)
    pids = wait_for_family(group)
    session = {pid for pid in pids if os.getsid(pid) == group.pgid}
    worker.send_signal(signal.SIGSTOP)  # it cannot help
    os.kill(group.pgid, signal.SIGKILL)
    worker.kill()
    assert ProcessGroup.parse(str(group)).reap(NO_ORPHAN_SECONDS)
    assert all_gone(session)
    for pid in pids - session:  # another session, and no guard: nobody knows that one any more
        os.kill(pid, signal.SIGKILL)


def test_it_outlives_the_thread_that_started_it(start: Start) -> None:
    children: list[ManagedProcess] = []
    thread = threading.Thread(target=lambda: children.append(start("echo up; exec sleep 600")))
    thread.start()
    thread.join()
    assert eventually(children[0].tail)
    time.sleep(1.5 * guard.TICK_SECONDS)
    assert children[0].poll() is None


def test_the_guard_survives_a_parent_that_died_before_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    nobody = "999999999"  # not the guard's parent
    command = [sys.executable, "-I", "-S", guard.__file__, nobody, "15", "-1", "-1", "touch", str(mark)]
    assert subprocess.run(command, check=False).returncode == 1
    assert not mark.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a child as somebody else")
def test_it_runs_the_child_as_another_user(start: Start) -> None:
    child = start("id -u; id -g; id -G; exec sleep 600", user=65534, group=65534, cwd=Path("/"))
    assert eventually(lambda: len(child.tail()) == 3)
    assert child.tail() == ["65534", "65534", "65534"]
    os.kill(child.pid, signal.SIGKILL)  # the parent-death signal outlives the change of user
    assert child.wait(NO_ORPHAN_SECONDS) == -signal.SIGKILL
    assert not guard.family(child.pid)


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"host": "another"}, {"start_ticks": 1}])
def test_it_rejects_to_reap_a_stranger(start: Start, change: dict[str, Any]) -> None:
    child = start("exec sleep 600")
    assert replace(child.group, **change).reap(1)
    assert child.poll() is None


def test_it_survives_a_listener_that_fails(start: Start) -> None:
    def fail(_line: str) -> None:
        raise ValueError("no")

    child = start("echo one; echo two", on_line=fail)
    assert child.wait(10) == 0
    assert child.tail() == ["one", "two"]


def test_it_keeps_a_bounded_tail_and_log(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 1000)
    log = tmp_path / "child.log"
    child = start("i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done", log=log)
    child.wait(20)
    assert child.tail(1000) == [f"line {index}" for index in range(300, 500)]
    assert log.stat().st_size <= 1000
    assert log.with_name("child.log.1").stat().st_size <= 1020


def test_it_survives_a_line_without_end(start: Start) -> None:
    child = start("head -c 1000000 /dev/zero | tr '\\0' x")
    assert child.wait(20) == 0
    assert sum(len(line) for line in child.tail(1000)) == 1_000_000
