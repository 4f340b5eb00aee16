"""GPU slots: what one worker owns. A slot is "cpu", a GPU's index, or several joined ("0,1") for one large model."""

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

import pynvml


@dataclass(frozen=True, slots=True)
class Slot:
    host: str
    devices: str
    """"cpu", or what CUDA_VISIBLE_DEVICES is set to."""

    @classmethod
    def here(cls, devices: str) -> "Slot":
        return cls(socket.gethostname(), devices)

    @classmethod
    def parse(cls, key: str) -> "Slot":
        """Raises `ValueError` for anything but a slot's key."""
        _, host, devices = key.split(":")
        return cls(host, devices)

    @property
    def key(self) -> str:
        """Names the lease and the engine's row; unique over all hosts."""
        return f"gpu:{self.host}:{self.devices}"

    @property
    def queue(self) -> str:
        """The Celery queue of this slot's one worker, also a file's name. Celery splits names at commas."""
        return self.key.replace(":", ".").replace(",", "+")

    def folder(self, run_dir: Path) -> Path:
        """Where its engine's sockets are; short, since a socket's path has little room."""
        return run_dir / f"slot-{hashlib.sha256(self.key.encode()).hexdigest()[:6]}"


def detect() -> list[str]:
    """Every GPU a slot of its own; "cpu" where there is none."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        count = 0
    return [str(index) for index in range(count)] or ["cpu"]
