"""A tiny random model that trains in seconds, with the demo model's tokenizer: what tests of training begin with."""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings

SECONDS = 120
DEMO_MODEL = Path(__file__).resolve().parents[2] / "var" / "models" / "smollm2-135m-instruct"  # made by `make setup`


def make_tiny_model(folder: Path) -> Path:
    """Writes a Llama of 2 layers, 64 wide, to `folder`, which is made. Takes about ten seconds; ask for the fixture
    `tiny_model`, which does it once in a session."""
    assert settings.TRAINER_PYTHON.exists(), "Make it first: make trainer"
    command = [str(settings.TRAINER_PYTHON), "-m", "tests.training.make_tiny", str(DEMO_MODEL), str(folder)]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def chat(question: str, answer: str, **extra: Any) -> dict[str, Any]:
    """A row of a prepared file for supervised training."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **extra}


def pair(question: str, better: str, worse: str) -> dict[str, Any]:
    """A row of a prepared file for preferences."""
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_completion": [{"role": "assistant", "content": better}],
        "non_preferred_completion": [{"role": "assistant", "content": worse}],
    }


def thumb(question: str, answer: str, label: bool) -> dict[str, Any]:
    """A row of a prepared file for thumbs up and down."""
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "completion": [{"role": "assistant", "content": answer}],
        "label": label,
    }


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A prepared file: a JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
