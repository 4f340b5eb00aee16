"""GPU slots: what one worker owns. A slot is "cpu", a GPU's index, or several joined ("0,1") for one large model."""

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def describe(slot: Slot) -> dict[str, Any]:
    """What a slot's `Device` says: name, memory in bytes (that of its smallest GPU), and whether engines can sleep."""
    if slot.devices == "cpu":
        return {"name": _cpu_name(), "memory_bytes": machine_memory(), "can_sleep": False}
    try:
        names, memory = _gpus(slot.devices.split(","))
    except pynvml.NVMLError:  # an engine will say more about it
        names, memory = [f"GPU {slot.devices}"], 0
    name = f"{len(names)} x {names[0]}" if len(names) > 1 else names[0]
    return {"name": name, "memory_bytes": memory, "can_sleep": True}


def _gpus(indices: list[str]) -> tuple[list[str], int]:
    """Their names, and the bytes of the smallest. Raises `pynvml.NVMLError`."""
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(int(index)) for index in indices]
        memory = min(int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
        return [pynvml.nvmlDeviceGetName(handle) for handle in handles], memory
    finally:
        pynvml.nvmlShutdown()


def machine_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_name() -> str:
    """As the kernel calls it; "CPU" where it does not say."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "CPU"
