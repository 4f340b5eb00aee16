"""Within the trainer's child: decides at each step whether to evaluate, to save and to stop, and tells what happened.

It imports Transformers, so it is imported after the backend has loaded.
"""

import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from apps.training import checkpoints
from apps.training.child.course import Course
from apps.training.child.failures import disk_full, diverged
from apps.training.spec import REWARDS, Evaluated, News, Saved, Started, Stepped, TrainingSpec

ABOUT = 10  # evaluations and saves in all, where nothing else was chosen
WINDOW = 5  # steps over which the speed is measured
OPTIMIZER_BYTES = 8  # of AdamW's state, for each trained number of 4 bytes
BESIDES = 16 * 1024**2  # bytes of a checkpoint beside weights and optimizer: the tokenizer, mostly
FULL_KEPT = 2  # the last whole models that are kept, beside the best

Say = Callable[[News], None]
Describe = Callable[[int, int, int], Started]
"""Makes the first news: of all steps, of those between two saves, and of the step that it goes on from."""


class StoppedInEvaluation(Exception):
    """It was asked to stop while it evaluated, which may take long."""


class Reporter(TrainerCallback):  # type: ignore[misc] # Transformers is not in the server's interpreter
    """One training's. `stopping` is set from a signal's handler."""

    def __init__(self, spec: TrainingSpec, say: Say, describe: Describe, *, validates: bool) -> None:
        self.stopping = False
        self.course = Course()
        self.early = False
        self._spec, self._say, self._describe, self._validates = spec, say, describe, validates
        self._evaluate_every = self._save_every = 1
        self._saved_bytes = 0
        self._times: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self._metrics: dict[str, float | None] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        options = self._spec.options
        about = max(math.ceil(state.max_steps / ABOUT), 1)
        self._evaluate_every, self._save_every = options.eval_steps or about, options.save_steps or about
        self.course = Course.of_history(state.log_history)
        self._times.append((time.monotonic(), state.num_input_tokens_seen))
        self._saved_bytes = _bytes_of_save(others["model"])
        self._say(self._describe(state.max_steps, self._save_every, state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        step, last = state.global_step, state.global_step >= state.max_steps
        control.should_evaluate = self._validates and not self.stopping and (last or step % self._evaluate_every == 0)
        control.should_save = self.stopping or last or control.should_evaluate or step % self._save_every == 0
        control.should_training_stop |= self.stopping
        if control.should_save:
            self._check_disk()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **others: Any) -> None:
        if "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), logs.get("grad_norm")
        if not math.isfinite(loss) or not math.isfinite(norm or 0.0):
            raise diverged(state.global_step, self._spec.options.learning_rate)
        self._times.append((time.monotonic(), state.num_input_tokens_seen))
        news = Stepped(
            step=state.global_step,
            epoch=float(state.epoch),
            loss=loss,
            learning_rate=float(logs["learning_rate"]),
            grad_norm=None if norm is None else float(norm),
            token_accuracy=logs.get("mean_token_accuracy"),
            tokens=int(state.num_input_tokens_seen),
            tokens_per_second=self._speed(),
            memory_bytes=memory_bytes(on_cpu=self._spec.device == "cpu"),
            rewards=_rewards(logs),
        )
        self._metrics = {"train_loss": news.loss, "train_mean_token_accuracy": news.token_accuracy}
        self._metrics |= {f"train_{name}": value for name, value in news.rewards.items()}
        self._say(news)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self.stopping:
            raise StoppedInEvaluation

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **others: Any) -> None:
        step, loss, accuracy = state.global_step, float(metrics["eval_loss"]), metrics.get("eval_mean_token_accuracy")
        if not math.isfinite(loss):
            raise diverged(step, self._spec.options.learning_rate)
        self.course.losses[step] = loss
        rewards = _rewards(metrics, "eval_")
        self._metrics |= {"valid_loss": loss, "valid_mean_token_accuracy": accuracy}
        self._metrics |= {f"valid_{name}": value for name, value in rewards.items()}
        self._say(Evaluated(step=step, loss=loss, token_accuracy=accuracy, rewards=rewards))
        self._times.clear()  # the time was no training's
        self._times.append((time.monotonic(), state.num_input_tokens_seen))
        self.early = self.course.should_stop(self._spec.options.early_stopping) and step < state.max_steps
        control.should_training_stop |= self.early

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Seal what Transformers has written; then what is older need not be gone on from any more."""
        folder = Path(self._spec.folder) / f"{checkpoints.PREFIX}{state.global_step}"
        sealed = checkpoints.seal(folder, step=state.global_step, metrics=self._metrics)
        self._saved_bytes = sealed.bytes
        self._say(Saved(step=state.global_step, folder=str(folder), digest=sealed.digest, bytes=sealed.bytes))
        self._clear(folder)

    def _clear(self, newest: Path) -> None:
        older = [path for path in checkpoints.saved(newest.parent) if path != newest]
        best = self.course.best(checkpoints.step_of(newest))
        for at, path in enumerate(reversed(older), 2):
            if self._spec.technique == "full" and at > FULL_KEPT and checkpoints.step_of(path) != best:
                checkpoints.remove(path)
            else:
                checkpoints.thin(path)

    def _check_disk(self) -> None:
        free, reserve = shutil.disk_usage(self._spec.folder).free, self._spec.reserve_bytes
        if free - self._saved_bytes < reserve:
            raise disk_full(needed=self._saved_bytes, free=free, reserve=reserve, folder=self._spec.folder)

    def _speed(self) -> float:
        """Tokens per second over the last steps."""
        (began, before), (now, tokens) = self._times[0], self._times[-1]
        return (tokens - before) / (now - began) if now > began else 0.0


def memory_bytes(*, on_cpu: bool) -> int:
    """At its highest: of the GPU what PyTorch reserved, of a CPU the process's resident set."""
    if not on_cpu:
        return int(torch.cuda.max_memory_reserved())
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _rewards(logs: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Of what TRL logged, those that are numbers; none where the method has no rewards."""
    found = {name: float(logs[f"{prefix}{trls}"]) for name, trls in REWARDS.items() if f"{prefix}{trls}" in logs}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _bytes_of_save(model: Any) -> int:
    """About what the first checkpoint takes."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return int(sum(weight.numel() * (weight.element_size() + OPTIMIZER_BYTES) for weight in trained)) + BESIDES
