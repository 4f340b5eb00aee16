"""Within the trainer's child: prepared rows become data sets, and TRL's trainer learns them.

It imports Transformers and TRL, so it is imported after the backend has loaded.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from transformers import PrinterCallback
from trl import pack_dataset

from apps.training.child import examples, thumbs
from apps.training.child.examples import Columns, Counts
from apps.training.child.learner import Learner, TrainingBackend, arguments, packs
from apps.training.child.left_out import LeftOut, listing
from apps.training.child.rendering import Renderer
from apps.training.child.reporter import Reporter, StoppedInEvaluation
from apps.training.child.tokenizer import renderer_of
from apps.training.spec import FILE_KINDS, Ended, News, Started, TrainingSpec

Say = Callable[[News], None]


def learn(spec: TrainingSpec, say: Say, backend: TrainingBackend, learner: Learner, last: Path | None) -> Ended:
    """From the checkpoint `last`, where there is one. Raises `Refused`, and whatever the libraries do."""
    renderer = renderer_of(spec)
    with listing(Path(spec.folder)) as listed:
        counts, valid = (Counts(left_out=LeftOut(kind, listed)) for kind in FILE_KINDS)
        train_rows = prepare(spec, renderer, Path(spec.train_file), counts, pack=packs(spec))
        valid_rows = prepare(spec, renderer, Path(spec.valid_file), valid) if spec.valid_file else None

    up, down = thumbs.weights(counts.ups, counts.downs, spec.options) if spec.method == "kto" else (0.0, 0.0)

    def describe(steps: int, save_steps: int, resumed_from: int) -> Started:
        return Started(
            backend=backend.name, version=backend.version(), examples=counts.examples, valid_examples=valid.examples,
            sequences=counts.sequences, left_out=counts.left_out.count, tokens=counts.tokens,
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
    """A data set of token ids. Raises `Refused`."""
    folder = Path(spec.folder) / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    rows = _written(examples.read(path, renderer, spec.method, spec.options, counts), folder / f"{path.stem}.arrow")
    for sentence in examples.told(counts):
        print(f"{path.name}: {sentence}", flush=True)
    if spec.method == "kto":
        return _written(_in_batches(rows, spec), folder / f"{path.stem}.mixed.arrow")
    return pack_dataset(rows, spec.options.max_length, "bfd") if pack else rows


def _written(rows: Iterable[Columns], target: Path) -> Any:
    """A data set on the disk, of which Transformers reads what a batch needs."""
    writer = ArrowWriter(path=str(target))
    for columns in rows:
        writer.write(columns)
    writer.finalize()
    return Dataset.from_file(str(target))


def _in_batches(rows: Any, spec: TrainingSpec) -> Iterator[Columns]:
    """For KTO: mixed, and with the columns that its trainer would else make of the text."""
    order = thumbs.mixed(len(rows), spec.options.seed)
    for row, foreign in thumbs.with_foreign_answers(order, spec.options.batch_size):
        yield {**rows[row], "KL_completion_ids": rows[foreign]["completion_ids"]}


def make_trainer(learner: Learner, config: Any, train_rows: Any, valid_rows: Any, reporter: Any) -> Any:
    """TRL's for the method; it takes our token ids as they are, and writes nothing but weights and state."""

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
