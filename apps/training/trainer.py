"""Drives the trainer's child. See `apps.training.child.worker` for the other side, `apps.training.spec` for the words.

Not in charge of: who may use the device, what becomes of the job, and starting again after a crash.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from apps.core.process import ManagedProcess, ProcessGroup
from apps.models.engines.command import public
from apps.training.spec import News, TrainingSpec, decode_news, encode

MARK = '{"event":'  # how a line of news begins
TAIL_LINES = 200

# Nothing is asked of the network, nothing is reported to anybody, and what libraries write lies in the job's folder.
ALWAYS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_MODE": "disabled",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "UNSLOTH_CPU_CHUNKED_CE": "0",  # on a CPU, TRL's own loss: the same curve, and it counts the right tokens
}


class Trainer:
    """One training, from its start to its end. `on_news` is called in the thread that reads the child's output."""

    def __init__(
        self, spec: TrainingSpec, *, python: Path, cwd: Path, log: Path, on_news: Callable[[News], None]
    ) -> None:
        self.spec = spec
        self._order = Path(spec.folder) / "spec.json"
        self._on_news = on_news
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._process = ManagedProcess(
            [str(python), "-m", "apps.training.child.worker", str(self._order)],
            name=f"trainer of {Path(spec.folder).name}",
            env=environment(spec, os.environ), cwd=cwd, log=log, on_line=self._take,
        )  # fmt: skip

    def start(self) -> None:
        """Raises OSError when the order cannot be written."""
        self._order.parent.mkdir(parents=True, exist_ok=True)
        self._order.write_bytes(encode(self.spec))
        self._process.start()

    @property
    def group(self) -> ProcessGroup:
        """What to record, for a later owner to reap. Only after `start()`."""
        return self._process.group

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code once it has ended and all its news were told; None after `timeout` seconds."""
        return self._process.wait(timeout)

    def stop(self, timeout: float) -> None:
        """Have it end its step, save, say `Ended("stopped")` and exit with 0; it is killed after `timeout` seconds.

        While it still loads it has nothing to save, and exits at once without a word.
        """
        self._process.stop(timeout)

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines that are no news, the latest last."""
        return list(self._lines)[-lines:]

    def _take(self, line: str) -> None:
        if not line.startswith(MARK):
            self._lines.extend([line] if line.strip() else [])
            return
        try:
            news = decode_news(line)
        except msgspec.MsgspecError:
            self._lines.append(line)
            return
        self._on_news(news)


def environment(spec: TrainingSpec, base: Mapping[str, str]) -> dict[str, str]:
    """The child's whole environment, with what it may know of `base`: no database, broker or secret. Pure."""
    cache = Path(spec.folder) / "cache"
    folders = {
        "UNSLOTH_COMPILE_LOCATION": str(cache / "unsloth"),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "HF_MODULES_CACHE": str(cache / "modules"),
    }
    cpu = {"CUDA_VISIBLE_DEVICES": "", "UNSLOTH_FORCE_CPU": "1"}
    device = cpu if spec.device == "cpu" else {"CUDA_VISIBLE_DEVICES": spec.device}
    return public(base) | ALWAYS | folders | device
