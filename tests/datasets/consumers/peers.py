"""Packages that read and write training data elsewhere, in a folder of their own, without what they train with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings

LLAMA_FACTORY = ("llamafactory==0.9.5",)
AXOLOTL = ("axolotl==0.19.0", "colorama", "addict", "fire", "python-dotenv")
ALONE = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "AXOLOTL_DO_NOT_TRACK": "1"}
SECONDS = 240


def install(packages: tuple[str, ...], folder: Path) -> Path:
    """Without what they depend on: the trainer's interpreter, which runs them, has what their readers need."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, *packages], check=True
    )
    return folder


def run(module: str, folder: Path, *words: object) -> list[Any]:
    """What a module of `tests.datasets.consumers` prints, a line of JSON each."""
    done = subprocess.run(
        [settings.TRAINER_PYTHON, "-m", f"tests.datasets.consumers.{module}", folder, *map(str, words)],
        cwd=settings.BASE_DIR, capture_output=True, text=True, check=False, timeout=SECONDS,
        env=os.environ | ALONE | {"HF_HOME": str(folder.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "[["))]
