"""Lends the fake engine's real processes to a runner or a client, as a GPU worker would."""

import os
from pathlib import Path
from typing import Literal

from apps.core.process import ProcessGroup
from apps.models.engines.engine import Engine, EngineSpec
from apps.models.slots import Slot
from tests.stack.live import REPOSITORY


class Lender:
    """An `EngineHost` without a slot; a context manager."""

    def __init__(
        self, folder: Path, *, name: str = "test-model", runner: Literal["generate", "pooling"] = "generate", **env: str
    ) -> None:
        """`env` steers the fake, for example FAKE_ENGINE_LATENCY."""
        (folder / "config.json").write_text("{}")
        self.restarts, self.explained, self.going, self.stopping = 0, 0, True, False
        self.calls = folder / "calls"
        self._env = {"ENGINE_PASS_ENV": "FAKE_ENGINE_*", "FAKE_ENGINE_CALLS": str(self.calls), **env}
        self._spec = EngineSpec(
            python=REPOSITORY / "tests/fakes/engine/python",
            model=folder,
            served_name=name,
            runner=runner,
            socket=folder / "engine.sock",
            log=folder / "engine.log",
            cwd=REPOSITORY,
            device="cpu",
            max_num_seqs=64,
        )

    slot = Slot.here("cpu")

    def __enter__(self) -> "Lender":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.stop(5)

    def record(self, group: ProcessGroup) -> None:
        """Nobody has to reap it: a test that ends leaves nothing."""

    def restart(self, *, explained: bool = False) -> bool:
        self.restarts += 1
        self.engine.stop(1)
        self._start()
        return self.going

    def explain(self) -> None:
        self.explained += 1

    def go_on(self) -> bool:
        return self.going and not self.stopping

    def must_stop(self) -> bool:
        return self.stopping

    def patience(self) -> float:
        return 2.0 if self.stopping else 60.0

    def called(self) -> list[str]:
        """Every prompt that was sent, in order, repeated ones too."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def _start(self) -> None:
        before = dict(os.environ)
        os.environ.update(self._env)  # the engine's environment is made from ours
        try:
            self.engine = Engine(self._spec)
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.engine.start()
        self.engine.wait_ready(30, lambda: False)
