"""Real trainers on the tiny model, and what they said."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings

from apps.training.options import parse
from apps.training.spec import Evaluated, Failed, News, Saved, Started, Stepped, TrainingSpec
from apps.training.trainer import Trainer
from tests.training.tiny import chat, write_rows

Kind = TypeVar("Kind", bound=News)

SECONDS = 240  # for one trainer, also on a busy machine
WORDS = ("amber", "birch", "copper", "delta", "ember", "flint", "granite", "harbor")
QUICK = {"batch_size": 4, "accumulation": 1, "max_length": 128, "learning_rate": 0.02, "warmup": 0.0}


@dataclass
class Told:
    """What one trainer said, and how it ended."""

    news: list[News] = field(default_factory=list)
    code: int | None = None
    lines: list[str] = field(default_factory=list)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [news for news in self.news if isinstance(news, kind)]

    @property
    def started(self) -> Started:
        (started,) = self.of(Started)
        return started

    @property
    def losses(self) -> dict[int, float]:
        return {news.step: news.loss for news in self.of(Stepped)}

    @property
    def valid_losses(self) -> dict[int, float]:
        return {news.step: news.loss for news in self.of(Evaluated)}

    @property
    def saved(self) -> dict[int, Saved]:
        return {news.step: news for news in self.of(Saved)}

    @property
    def failed(self) -> Failed:
        assert isinstance(self.news[-1], Failed), (self.news[-1:], self.lines)
        return self.news[-1]


def facts(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Questions whose answers follow no rule."""
    return [chat(f"Who keeps {number}?", f"{WORDS[number * 5 % 8]} {WORDS[number * 3 % 7]}") for number in
            range(first, first + count)]  # fmt: skip


def make_spec(model: Path, folder: Path, *, valid: int = 0, **changes: Any) -> TrainingSpec:
    """For supervised LoRA on sixteen facts; `valid` more of them are for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    options = QUICK | changes.pop("options", {})
    values: dict[str, Any] = {"method": "sft", "technique": "lora", "backend": "auto", "device": "cpu"} | changes
    if "train_file" not in changes:
        values["train_file"] = str(write_rows(folder / "train.jsonl", facts(16)))
    if valid:
        values["valid_file"] = str(write_rows(folder / "valid.jsonl", facts(valid, first=100)))
    return TrainingSpec(model=str(model), folder=str(folder), options=parse(options), **values)


def run(
    spec: TrainingSpec, *, stop_when: Callable[[News], bool] = lambda news: False, by: signal.Signals = signal.SIGTERM
) -> Told:
    """Until its end, or until it was stopped, or killed, after the first news of that kind."""
    told = Told()

    def hear(news: News) -> None:
        told.news.append(news)
        if stop_when(news):
            os.kill(trainer.group.pgid, by)  # at once: its steps are short

    log = Path(spec.folder) / "trainer.log"
    trainer = Trainer(spec, python=settings.TRAINER_PYTHON, cwd=settings.BASE_DIR, log=log, on_news=hear)
    trainer.start()
    try:
        trainer.wait(SECONDS)
    finally:
        trainer.stop(0)
    told.code, told.lines = trainer.poll(), trainer.tail(50)
    return told
