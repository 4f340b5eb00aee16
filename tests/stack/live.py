"""The whole site, run by `manage.py up` as an operator would, for tests that need real processes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from apps.core.process import ManagedProcess
from tests.migrated import copy_migrated

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 90
STOP_SECONDS = 20


class LiveStack:
    """A site with its own VAR_DIR and free ports; a context manager. It dies with the test run, however that ends."""

    def __init__(self, var: Path, *, env: Mapping[str, str] | None = None, fresh: bool = False) -> None:
        """`env` adds settings, for example ENGINE_PYTHON; servers named outside are not used.

        Unless `fresh`, its database is a copy of one that was made and migrated before: that takes seconds.
        """
        self.var = var
        self._fresh = fresh or "DATABASE_URL" in (env or {})
        self.api_port, self.web_port = free_ports(2)
        self.base_url = f"http://127.0.0.1:{self.api_port}/v1"
        self.web_url = f"http://127.0.0.1:{self.web_port}"
        own = {"VAR_DIR": str(var), "API_PORT": str(self.api_port), "WEB_PORT": str(self.web_port)}
        self.env = {**os.environ, "DATABASE_URL": "", "REDIS_URL": "", **own, **(env or {})}
        self._ready = threading.Event()
        self._guards: dict[int, int] = {}
        self._up = ManagedProcess(
            [sys.executable, "manage.py", "up"],
            name="up",
            env=self.env,
            cwd=REPOSITORY,
            log=var / "log" / "up.log",
            on_line=self._listen,
        )

    def start(self) -> Self:
        """Returns when the site serves. Raises RuntimeError with its last words when it does not."""
        self._ready.clear()
        if not (self._fresh or (self.var / "postgres").exists()):
            copy_migrated(self.var)
        self._up.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._ready.wait(0.1):
            if self._up.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("The site did not start:\n" + "\n".join(self._up.tail(30)))
        return self

    def stop(self) -> None:
        self._up.stop(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def output(self) -> list[str]:
        """The last lines of the site's log."""
        return self._up.tail(200)

    def manage(self, *arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run `manage.py ARGUMENTS` on this site; its exit code is the caller's to judge."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env={**self.env, "COLUMNS": "250"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def names(self) -> set[str]:
        """The processes that `up` keeps: postgres, valkey, web, control, beat and gpu-SLOT for each slot."""
        return set(self._pids())

    def pid_of(self, name: str, *, other_than: int = 0) -> int:
        """The pid of a process by its name, once it runs (again). Raises RuntimeError after 30 s.

        `other_than` is an earlier answer, of a process that died: a new guard holds the new one.
        """
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            guard = self._pids().get(name, 0)
            children = children_of(guard)
            if children and guard != self._guards.get(other_than):
                self._guards[children[0]] = guard
                return children[0]
            time.sleep(0.02)
        raise RuntimeError(f"{name} does not run")

    def _pids(self) -> dict[str, int]:
        """The guard's pid for each name; its one child is the program itself."""
        pids: dict[str, int] = json.loads((self.var / "run" / "up.json").read_text())
        return pids

    def _listen(self, line: str) -> None:
        if "| Ready." in line:
            self._ready.set()


def children_of(pid: int) -> list[int]:
    """The direct children of a process; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process runs; the dead that nobody buried do not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
