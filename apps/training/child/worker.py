"""The trainer's child: one order in, lines of news out, checkpoints beside.

    python -m apps.training.child.worker SPEC.json

It may be killed at any moment, and started again with the same order: it goes on from the last sealed checkpoint, with
the same curve as if nothing had happened. SIGTERM: it ends its step, saves, and exits with 0; while it loads, at once.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from apps.training import checkpoints
from apps.training.child import examples, thumbs
from apps.training.child.backends import choose
from apps.training.child.course import Course
from apps.training.child.examples import Counts
from apps.training.child.failures import explain
from apps.training.child.learner import Learner, TrainingBackend, arguments, packs
from apps.training.child.rendering import Renderer
from apps.training.spec import Ended, News, Saved, Started, TrainingSpec, encode

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
    return _learn(spec, say, backend, last)


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


def _learn(spec: TrainingSpec, say: Say, backend: TrainingBackend, last: Path | None) -> Ended:
    learner = backend.load(spec)
    from apps.training.child.reporter import Reporter, StoppedInEvaluation  # noqa: PLC0415 - it needs what is loaded now
    from apps.training.child.tokenizer import renderer_of  # noqa: PLC0415 - the same

    counts, valid, renderer = Counts(), Counts(), renderer_of(spec)
    train_rows = prepare(spec, renderer, Path(spec.train_file), counts, pack=packs(spec))
    valid_rows = prepare(spec, renderer, Path(spec.valid_file), valid) if spec.valid_file else None
    examples.write_left_out(Path(spec.folder), {"training": counts, "validation": valid})

    up, down = thumbs.weights(counts.ups, counts.downs, spec.options) if spec.method == "kto" else (0.0, 0.0)

    def describe(steps: int, save_steps: int, resumed_from: int) -> Started:
        return Started(
            backend=backend.name, version=backend.version(), examples=counts.examples, valid_examples=valid.examples,
            sequences=counts.sequences, left_out=len(counts.left_out), tokens=counts.tokens,
            trained_tokens=counts.learned, cut=counts.cut, steps=steps, save_steps=save_steps,
            resumed_from=resumed_from, ups=counts.ups, downs=counts.downs, up_weight=up, down_weight=down,
        )  # fmt: skip

    reporter = Reporter(spec, say, describe, validates=valid_rows is not None)
    config = learner.config(**arguments(spec, counts.ups, counts.downs))
    trainer = make_trainer(learner, config, train_rows, valid_rows, reporter)
    signal.signal(signal.SIGTERM, lambda *_: setattr(reporter, "stopping", True))
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except StoppedInEvaluation:
        trainer._save_checkpoint(trainer.model, None)
        reporter.on_save(trainer.args, trainer.state, trainer.control)
    step = trainer.state.global_step
    best = reporter.course.best(step)
    if step >= trainer.state.max_steps:
        return Ended(reason="finished", step=step, best_step=best)
    return Ended(reason="early" if reporter.early else "stopped", step=step, best_step=best)


def prepare(spec: TrainingSpec, renderer: Renderer, path: Path, counts: Counts, *, pack: bool = False) -> Any:
    """A data set of token ids on the disk, of which Transformers reads what a batch needs. Raises `Refused`."""
    from datasets import Dataset  # noqa: PLC0415
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415

    target = Path(spec.folder) / "cache" / f"{path.stem}.arrow"
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = ArrowWriter(path=str(target))
    for columns in examples.read(path, renderer, spec.method, spec.options, counts):
        writer.write(columns)
    writer.finalize()
    for sentence in examples.told(counts):
        print(f"{path.name}: {sentence}", flush=True)
    rows = Dataset.from_file(str(target))
    if spec.method == "kto":
        return _in_batches(rows, spec, target.with_suffix(".mixed.arrow"))
    if pack:
        from trl import pack_dataset  # noqa: PLC0415

        return pack_dataset(rows, spec.options.max_length, "bfd")
    return rows


def _in_batches(rows: Any, spec: TrainingSpec, target: Path) -> Any:
    """For KTO: mixed, and with the columns that its trainer would else make of the text."""
    from datasets import Dataset  # noqa: PLC0415
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415

    writer = ArrowWriter(path=str(target))
    order = thumbs.mixed(len(rows), spec.options.seed)
    for row, foreign in thumbs.with_foreign_answers(order, spec.options.batch_size):
        writer.write({**rows[row], "KL_completion_ids": rows[foreign]["completion_ids"]})
    writer.finalize()
    return Dataset.from_file(str(target))


def make_trainer(learner: Learner, config: Any, train_rows: Any, valid_rows: Any, reporter: Any) -> Any:
    """TRL's for the method; it takes our token ids as they are, and writes nothing but weights and state."""
    from transformers import PrinterCallback  # noqa: PLC0415

    class Trainer(learner.trainer):  # type: ignore[name-defined, misc] # known when it runs
        def _prepare_dataset(self, dataset: Any, *args: Any, **others: Any) -> Any:
            return dataset

        def create_model_card(self, *args: Any, **others: Any) -> None:
            pass

    trainer = Trainer(
        model=learner.model,
        args=config,
        processing_class=learner.tokenizer,
        train_dataset=train_rows,
        eval_dataset=valid_rows,
        **learner.extra,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(reporter)
    return trainer


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # what libraries would still tidy up takes a second, and is not wanted
