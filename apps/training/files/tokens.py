"""What the trainer will make of a job's prepared files: their tokens, and what it would leave out."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.training.spec import Checked, Failed, TrainingSpec, decode_check, encode

SECONDS = 30.0  # that are read; beyond them the rest is taken to be alike
START_SECONDS = 60.0  # more, until a child that hangs is killed
CHARACTERS_PER_TOKEN = 4.0  # of English text, where nothing can be counted


@dataclass(frozen=True, slots=True)
class Count:
    tokens: int
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else 'about '}{self.tokens:,} tokens"


def check_files(spec: TrainingSpec) -> Checked | Failed | None:
    """By the model's own tokenizer and chat template; None where that cannot be done: the trainer will say why."""
    command = [str(settings.TRAINER_PYTHON), "-m", "apps.training.child.token_counter", str(SECONDS)]
    try:
        done = subprocess.run(
            command, input=encode(spec), cwd=settings.BASE_DIR, env=_environment(), capture_output=True, check=True,
            timeout=SECONDS + START_SECONDS,
        )  # fmt: skip
        checked: Checked | Failed = decode_check(done.stdout.strip().rpartition(b"\n")[2])
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return checked


def count_tokens(checked: Checked | None, path: Path, *, rows: int) -> Count:
    """Of the training examples; by the file's size where they could not be read."""
    if checked is None:
        return Count(round(path.stat().st_size / CHARACTERS_PER_TOKEN), exact=False)
    found = checked.training
    if found.rows == rows:
        return Count(found.tokens, exact=True)
    return Count(round(found.tokens / max(found.rows, 1) * rows), exact=False)


def _environment() -> dict[str, str]:
    """Nothing secret: what the child runs came with a model."""
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return passed | offline | {"TOKENIZERS_PARALLELISM": "false"}
