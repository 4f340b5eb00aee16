"""Fine-tuning of the demo model: the same training by a bare script with Unsloth, and by our trainer, in turns.

Both are timed from the start of their process to its end, loading included. Our trainer also saves and seals its
checkpoints, ten in all, while the script saves once.
"""

import json
import os
import random
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings

from apps.training.options import parse
from apps.training.spec import Ended, News, Stepped, TrainingSpec
from apps.training.trainer import Trainer
from bench.figures import Figure

RUNS = 3
STEPS = 24
ROWS = 64
MODEL = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"
OPTIONS = {
    "max_steps": STEPS, "batch_size": 4, "accumulation": 1, "max_length": 512, "learning_rate": 5e-4, "warmup": 0.0,
    "gradient_checkpointing": False, "rank": 16, "alpha": 32.0, "seed": 3407,
}  # fmt: skip
Losses = list[float]


def run() -> list[Figure]:
    bare: list[float] = []
    ours: list[float] = []
    apart: list[float] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_rows(folder / "rows.jsonl")
        train_bare(rows, folder / "warm")  # the first reads the libraries from the disk
        for number in range(RUNS):
            seconds, theirs = train_bare(rows, folder / f"bare-{number}")
            bare.append(seconds)
            seconds, losses = train_ours(rows, folder / f"ours-{number}")
            ours.append(seconds)
            apart.append(max(abs(a - b) for a, b in zip(theirs, losses, strict=True)))
    return [
        Figure(name=f"{STEPS} steps by a bare script with Unsloth", unit="s", runs=bare),
        Figure(name=f"{STEPS} steps by our trainer", unit="s", runs=ours),
        Figure(name="ratio", unit="", runs=[a / b for a, b in zip(ours, bare, strict=True)], at_most=1.05),
        Figure(name="the loss curves' largest difference at a step", unit="", runs=apart, at_most=0.001),
    ]


def write_rows(path: Path) -> Path:
    """Facts of a sentence each, all of them a chat."""
    chance = random.Random(1)
    with path.open("w") as file:
        for number in range(ROWS):
            asked = {"role": "user", "content": f"What is the code of station {number}?"}
            said = f"The code of station {number} is {chance.randint(1000, 9999)}, and it closes at {number % 12}."
            file.write(json.dumps({"messages": [asked, {"role": "assistant", "content": said}]}) + "\n")
    return path


def train_bare(rows: Path, folder: Path) -> tuple[float, Losses]:
    """Seconds, and the loss of each step.

    In a session of its own, as our trainer is: Linux shares the cores out by session first (sched_autogroup), so that
    on a busy machine one that stayed in ours would be measured against another share.
    """
    command = [str(settings.TRAINER_PYTHON), "-m", "bench.bare_training"]
    command += [str(MODEL), str(rows), str(folder), str(STEPS)]
    env: Mapping[str, str] = os.environ | {
        "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "UNSLOTH_COMPILE_LOCATION": str(folder / "cache"),
    }  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=env, capture_output=True, text=True, check=False, start_new_session=True
    )
    seconds = time.monotonic() - started
    told = [line.removeprefix("LOSSES ") for line in done.stdout.splitlines() if line.startswith("LOSSES ")]
    if not told:
        raise RuntimeError(f"The bare script failed: {done.stderr[-2000:]}")
    return seconds, json.loads(told[0])


def train_ours(rows: Path, folder: Path) -> tuple[float, Losses]:
    """As a job's: the child is started, told what to do, heard, and waited for."""
    spec = TrainingSpec(
        method="sft", technique="lora", backend="unsloth", model=str(MODEL), train_file=str(rows), folder=str(folder),
        device="cpu", options=parse(OPTIONS),
    )  # fmt: skip
    news: list[News] = []
    trainer = Trainer(
        spec, python=settings.TRAINER_PYTHON, cwd=settings.BASE_DIR, log=folder / "log.txt", on_news=news.append
    )
    started = time.monotonic()
    trainer.start()
    trainer.wait()
    seconds = time.monotonic() - started
    if not news or not isinstance(news[-1], Ended):
        raise RuntimeError(f"Our trainer failed: {news[-1:]} {trainer.tail()}")
    return seconds, [step.loss for step in news if isinstance(step, Stepped)]
