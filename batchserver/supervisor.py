"""Runs a stack: starts its services stage by stage, starts again what dies, stops all in reverse order.

Not in charge of which services there are (`batchserver.stack`), nor of how one process is kept
(`apps.core.process`).
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from apps.core.process import ManagedProcess
from batchserver.embedded import StartError

TICK = 0.1  # seconds between two looks at the children
BACK_OFF = (0.2, 10.0)  # seconds before the first restart, and at most; it doubles each time
PIPE_SECONDS = 2.0  # for the last output of a dead child to be read
SETTLED = 30.0  # a child that ran this long, in seconds, begins again with the short back-off
START_FAILURES = 4  # a service that dies this often before it is ready does not start
STOP_SECONDS = 10.0  # for all stages together
STOP_LAST_SECONDS = 2.0  # of these are kept for each stage that the others stand on

Say = Callable[[str, str], None]
"""Show one line (second) of a process (first)."""


def _nothing() -> None:
    """Some services need no preparation."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process of a stack: how it is started, and how it is known to serve."""

    name: str
    command: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """On top of our own environment."""
    stop_signal: int = signal.SIGTERM
    user: int | None = None
    group: int | None = None
    prepare: Callable[[], None] = _nothing
    """Called before each start; may raise StartError."""
    ready: Callable[[], bool] | None = None
    """Whether it serves; None: as soon as it runs."""
    start_seconds: float = 120.0
    once: bool = False
    """It runs to its end, which must be a success, before the next stage begins."""


class Supervisor:
    """The children of one stack. To be used from the main thread: children die with the thread that started them."""

    def __init__(self, stages: Sequence[Sequence[Service]], *, logs: Path, state: Path, say: Say) -> None:
        """`logs` gets a NAME.log per service; `state` is a JSON file with `pids`, kept current."""
        self._stages = [[_Child(service, logs, say) for service in stage] for stage in stages]
        self._state = state
        state.parent.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start all stages. Raises StartError, with what does not start and its last words."""
        for stage in self._stages:
            for child in stage:
                child.start()
            self._write_state()
            for child in stage:
                self._await(child)

    def tick(self) -> None:
        """One look at the children: those that died are started again, each after its back-off."""
        for child in self._children():
            if child.restart_if_due():
                self._write_state()
        time.sleep(TICK)

    def stop(self) -> None:
        """Stop all, the last stage first. Returns when nothing runs any more."""
        deadline = time.monotonic() + STOP_SECONDS - STOP_LAST_SECONDS
        for stage in reversed([stage for stage in self._stages if stage]):
            seconds = max(deadline - time.monotonic(), STOP_LAST_SECONDS)
            with ThreadPoolExecutor(len(stage)) as pool:
                list(pool.map(_Child.stop, stage, [seconds] * len(stage)))
        self._state.unlink(missing_ok=True)

    def pids(self) -> dict[str, int]:
        """The pid of each child's guard."""
        return {child.service.name: child.process.pid for child in self._children()}

    def _children(self) -> list["_Child"]:
        """Those that are to run on."""
        return [child for stage in self._stages for child in stage if child.wanted]

    def _await(self, child: "_Child") -> None:
        deadline = time.monotonic() + child.service.start_seconds
        while not child.has_started():
            if child.failures >= START_FAILURES or time.monotonic() > deadline:
                raise StartError(child.last_words())
            self.tick()

    def _write_state(self) -> None:
        draft = self._state.with_suffix(".new")
        draft.write_text(json.dumps(self.pids()))
        draft.replace(self._state)


class _Child:
    """A service and its process: when it began, how often it died, when it may begin again."""

    def __init__(self, service: Service, logs: Path, say: Say) -> None:
        self.service = service
        self.wanted = False
        self.failures = 0
        self._say = say
        self._log = logs / f"{service.name}.log"
        self._began = 0.0
        self._due: float | None = None
        self.process = ManagedProcess(
            service.command,
            name=service.name,
            env={**os.environ, **service.env},
            cwd=service.cwd,
            log=self._log,
            on_line=partial(say, service.name),
            stop_signal=service.stop_signal,
            user=service.user,
            group=service.group,
        )

    def start(self) -> None:
        self.service.prepare()
        self.process.wait(PIPE_SECONDS)
        self.process.start()
        self._began = time.monotonic()
        self._due = None
        self.wanted = not self.service.once

    def stop(self, seconds: float) -> None:
        self.wanted = False
        self.process.stop(seconds)

    def has_started(self) -> bool:
        """Raises StartError when a task that runs once has failed."""
        code = self.process.poll()
        if self.service.once:
            if code:
                raise StartError(self.last_words())
            return code == 0
        return code is None and (self.service.ready is None or self.service.ready())

    def restart_if_due(self) -> bool:
        """Whether it was started again. A start that fails is one more death."""
        code = self.process.poll()
        if code is None:
            return False
        now = time.monotonic()
        if self._due is None:
            self._plan_restart(now, _ending(code))
        elif now >= self._due:
            try:
                self.start()
            except StartError as error:
                self._plan_restart(now, str(error))
            else:
                return True
        return False

    def last_words(self) -> str:
        words = "\n".join(self.process.tail(8))
        return f"{self.service.name} did not start, see {self._log}. Its last words:\n{words}"

    def _plan_restart(self, now: float, why: str) -> None:
        self.failures = 1 if now - self._began > SETTLED else self.failures + 1
        delay = min(BACK_OFF[0] * 2 ** (self.failures - 1), BACK_OFF[1])
        self._due = now + delay
        self._say("up", f"{self.service.name}: {why} It is started again in {delay:.1f} s.")


def _ending(code: int) -> str:
    if code < 0:
        return f"It was killed by {signal.Signals(-code).name}."
    return f"It ended with exit code {code}."


@contextmanager
def running(stages: Sequence[Sequence[Service]], *, var: Path, say: Say) -> Iterator[Supervisor]:
    """A started stack, stopped at the end. Raises StartError."""
    supervisor = Supervisor(stages, logs=var / "log", state=var / "run" / "up.json", say=say)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()
