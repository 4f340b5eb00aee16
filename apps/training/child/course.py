"""How a training goes by its validation loss: which step was the best, and whether it is time to stop. Pure."""

from collections.abc import Iterable
from typing import Any


class Course:
    """Validation losses by their step."""

    def __init__(self, losses: Iterable[tuple[int, float]] = ()) -> None:
        self.losses = dict(losses)

    @classmethod
    def of_history(cls, history: Iterable[dict[str, Any]]) -> "Course":
        """From the log that Transformers keeps in its state, so that it survives with a checkpoint."""
        return cls((entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry)

    def best(self, last: int) -> int:
        """The step with the lowest loss, the earlier of two that are alike; without any loss, the `last` one."""
        return min(self.losses, key=lambda step: (self.losses[step], step), default=last)

    def fruitless(self) -> int:
        """Evaluations since the best one."""
        return sum(step > self.best(0) for step in self.losses)

    def should_stop(self, patience: int) -> bool:
        return 0 < patience <= self.fruitless()
