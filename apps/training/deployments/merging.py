"""Runs the child that merges an adapter into its base (`apps.training.child.merge`), and sees to it that it ends."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from django.conf import settings

from apps.core.errors import Stopped
from apps.core.process import ManagedProcess
from apps.models.engines.command import public
from apps.models.installs.errand import Failed as MergeFailed
from apps.training.models import Deployment
from apps.training.spec import Failed, Merged, MergeOrder, encode

TICK = 0.25  # seconds between two looks at the child
STOP_SECONDS = 2.0
NO_TRAINER = 127  # the exit code of a command that cannot run
# On the CPU: engines keep the GPU meanwhile. Nothing is fetched.
SWITCHES = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}

_decode = msgspec.json.Decoder(Merged | Failed).decode


def merge(order: MergeOrder, *, log: Path, go_on: Callable[[], bool]) -> Merged:
    """Have the merged model in `order.folder`; blocks. Raises `errand.Failed`; `Stopped` once `go_on()` is false."""
    child = _Child(order, log)
    child.watch(go_on)
    match child.news:
        case Merged():
            return child.news
        case Failed():
            raise MergeFailed(child.news.message)
    raise MergeFailed(child.trouble())


def log_path(deployment: Deployment) -> Path:
    return settings.LOG_DIR / f"merge.{deployment.uid}.log"


class _Child:
    def __init__(self, order: MergeOrder, log: Path) -> None:
        self.news: Merged | Failed | None = None
        self._process = ManagedProcess(
            [str(settings.TRAINER_PYTHON), "-m", "apps.training.child.merge"], name=f"merge into {order.folder}",
            env=public(os.environ) | SWITCHES, cwd=settings.BASE_DIR, log=log, on_line=self._hear,
            stdin=encode(order),
        )  # fmt: skip

    def watch(self, go_on: Callable[[], bool]) -> None:
        self._process.start()
        try:
            while self._process.wait(TICK) is None:
                if not go_on():
                    raise Stopped
        finally:
            self._process.stop(STOP_SECONDS)

    def trouble(self) -> str:
        """Why there is no news."""
        code = self._process.poll()
        if code == NO_TRAINER:
            return "There is no trainer: run `make trainer`, or set TRAINER_PYTHON."
        tail = " ".join(self._process.tail(3))[-500:]
        memory = " It was killed, most likely because the machine's memory ran out." if code == -9 else ""
        return f"The process that merges ended ({code}).{memory} {tail}"

    def _hear(self, line: str) -> None:
        """In the reader's thread."""
        try:
            self.news = _decode(line)
        except msgspec.MsgspecError:
            return  # a line of a library's; the log keeps it
