"""How many tokens a prepared file has, before it is trained on."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

SECONDS = 30.0  # that are counted; beyond them the rest is taken to be alike
START_SECONDS = 30.0  # more, until a child that hangs is killed
CHARACTERS_PER_TOKEN = 4.0  # of English text, where nothing can be counted


@dataclass(frozen=True, slots=True)
class Count:
    tokens: int
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else 'about '}{self.tokens:,} tokens"


def count_tokens(path: Path, *, model: Path, rows: int) -> Count:
    """Of `rows` rows, by the model's own tokenizer; by the file's size where that cannot be had."""
    command = [
        str(settings.TRAINER_PYTHON),
        "-m",
        "apps.training.child.token_counter",
        str(model),
        str(path),
        str(SECONDS),
    ]
    try:
        done = subprocess.run(
            command, cwd=settings.BASE_DIR, env=_environment(), capture_output=True, text=True, check=True,
            timeout=SECONDS + START_SECONDS,
        )  # fmt: skip
        counted, tokens = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return Count(round(path.stat().st_size / CHARACTERS_PER_TOKEN), exact=False)
    if counted == rows:
        return Count(tokens, exact=True)
    return Count(round(tokens / max(counted, 1) * rows), exact=False)


def _environment() -> dict[str, str]:
    """Nothing secret: what the child runs came with a model."""
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return passed | {"TOKENIZERS_PARALLELISM": "false"}
