"""Adapters of the fake engine: loaded as vLLM loads them, refused in its words.

A file `fake-engine.txt` in the adapter's folder makes it behave worse: `die` (the engine, while it loads it),
`die-later` (when it answers for it), `refuse`, `nothing` (to change), `overflow` (numbers that no JSON holds).
"""

import argparse
import importlib
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

from . import answers

PEFTHelper = importlib.import_module("vllm.lora.peft_helper").PEFTHelper  # of this folder's vLLM

MARKER = "fake-engine.txt"
MAX_RANK = int(os.environ.get("FAKE_ENGINE_MAX_RANK", "512"))  # for which it has memory


class Loras:
    """By name: the folder of each."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rank = int(options.max_lora_rank or 16)
        if self.rank > MAX_RANK:
            raise MemoryError(f"out of memory: no room for adapters of rank {self.rank}")
        self.folders: dict[str, Path] = {}
        for module in map(json.loads, options.lora_modules):
            status, answer = self.load(module["name"], Path(module["path"]))
            if status != 200:
                raise ValueError(json.loads(answer)["error"]["message"])

    def load(self, name: str, folder: Path) -> tuple[int, bytes]:
        if name in self.folders:
            return answers.error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if not (folder / "adapter_config.json").is_file():
            return answers.error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {folder}")
        if (how := self.marker(folder)) == "die":
            print("RuntimeError: The fake engine dies of this adapter.", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            PEFTHelper.from_local_dir(str(folder), None).validate_legal(SimpleNamespace(max_lora_rank=self.rank))
            if how == "refuse" or not (folder / "adapter_model.safetensors").is_file():
                raise ValueError(f"{folder} doesn't contain tensors")
        except (ValueError, TypeError, AttributeError) as problem:
            return answers.error(500, "InternalServerError", str(problem))
        self.folders[name] = folder
        answers.SHIFTS[name] = 0.0 if how == "nothing" else 0.001
        return 200, f"Success: LoRA adapter '{name}' added successfully.".encode()

    def unload(self, name: str) -> tuple[int, bytes]:
        if name not in self.folders:
            return answers.error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.folders[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully.".encode()

    def trouble(self, name: str) -> tuple[int, bytes] | None:
        """What a request for it ends with, where that is no answer."""
        how = self.marker(self.folders[name]) if name in self.folders else ""
        if how == "die-later":
            print("RuntimeError: The fake engine dies of this adapter.", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "overflow":
            return answers.error(400, "BadRequestError", "Out of range float values are not JSON compliant")
        return None

    def marker(self, folder: Path) -> str:
        path = folder / MARKER
        return path.read_text().strip() if path.is_file() else ""
