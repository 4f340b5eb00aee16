"""The trainer's child: one order in, lines of news out, checkpoints beside.

    python -m apps.training.child.worker SPEC.json

It may be killed at any moment, and started again with the same order: it goes on from the last sealed checkpoint, with
the same curve as if nothing had happened. SIGTERM: it ends its step, saves, and exits with 0; while it loads, at once.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from apps.training import checkpoints
from apps.training.child.backends import choose
from apps.training.child.course import Course
from apps.training.child.failures import explain
from apps.training.spec import Ended, News, Saved, TrainingSpec, encode

STATE = "trainer_state.json"  # Transformers'
Say = Callable[[News], None]


def main(order: Path) -> int:
    """The exit code: 0 when it ended well, 1 after news that it failed."""
    say = take_the_output()
    spec = msgspec.json.decode(order.read_bytes(), type=TrainingSpec)
    try:
        say(train(spec, say))
    except Exception as error:
        traceback.print_exc()
        say(explain(error, spec))
        return 1
    return 0


def take_the_output() -> Say:
    """Libraries print to the standard output: from now on that is the log, and news go out as lines of their own."""
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(news: News) -> None:
        sys.stdout.flush()
        os.write(out, b"\n" + encode(news) + b"\n")  # at once, and never after half a line of somebody else's

    return say


def train(spec: TrainingSpec, say: Say) -> Ended:
    """Raises `Refused`, and whatever the libraries do."""
    folder = Path(spec.folder)
    last, swept = checkpoints.sweep(folder)
    for sentence in swept:
        print(sentence, flush=True)
    tell_again(folder, say)
    if last and (ended := already_ended(last, spec)):
        return ended
    backend = choose(spec)
    print(f"Loads {spec.model} with {backend.name} {backend.version()}.", flush=True)
    learner = backend.load(spec)
    learning = importlib.import_module("apps.training.child.learning")  # now: it needs what the backend has loaded
    learned: Ended = learning.learn(spec, say, backend, learner, last)
    return learned


def tell_again(folder: Path, say: Say) -> None:
    """Which checkpoints there are: whoever heard of the last one may have been killed before it was written down."""
    for path in checkpoints.saved(folder):
        sealed = checkpoints.sealed(path)
        step = checkpoints.step_of(path)
        say(Saved(step=step, folder=str(path), digest=sealed.digest, bytes=sealed.bytes))


def already_ended(last: Path, spec: TrainingSpec) -> Ended | None:
    """A trainer that was killed after its last save, and before it could say so."""
    state: dict[str, Any] = msgspec.json.decode((last / STATE).read_bytes())
    course, step = Course.of_history(state["log_history"]), state["global_step"]
    if step >= state["max_steps"]:
        return Ended(reason="finished", step=step, best_step=course.best(step))
    if course.should_stop(spec.options.early_stopping):
        return Ended(reason="early", step=step, best_step=course.best(step))
    return None


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # what libraries would still tidy up takes a second, and is not wanted
