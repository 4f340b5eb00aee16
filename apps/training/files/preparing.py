"""Training files become the files that a trainer reads: every row checked, some of them kept apart for validation.

The same job gives the same bytes. So it does not matter who of two workers finishes, and one that is killed leaves
nothing but a draft, which the next one removes.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

import msgspec
from django.conf import settings

from apps.batches.models import File
from apps.core.json_lines import escape_separators_in_bytes
from apps.training.files.reading import MAX_ERRORS, Limits, LineError, Reader
from apps.training.models import TrainingJob
from apps.training.options import Options, parse

TRAIN, VALID = "train.jsonl", "valid.jsonl"
DRAFTS = "preparing."
LOOK_EVERY = 500  # rows between two looks at whether the work is still ours

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Prepared:
    examples: int
    valid_examples: int


class Invalid(Exception):
    """A file cannot be used. `param` names it, `errors` are as the job keeps them."""

    def __init__(self, param: str, message: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.param, self.errors = param, errors


def prepare(job: TrainingJob, look: Callable[[], None]) -> Prepared:
    """Write the job's files. `look` is called now and then, and may raise. Raises `Invalid`, `OSError`."""
    job.folder.mkdir(parents=True, exist_ok=True)
    for left in job.folder.glob(f"{DRAFTS}*"):
        shutil.rmtree(left, ignore_errors=True)
    options = parse(job.options)
    with _drafts(job.folder) as drafts:
        prepared = _write(job, options, drafts, look)
        look()
        for name in (TRAIN, VALID):
            if (drafts / name).exists():
                (drafts / name).replace(job.folder / name)
    _sync(job.folder)
    return prepared


def remove_prepared(folder: Path) -> None:
    """What a job that has ended needs no more; its checkpoints stay."""
    for name in (TRAIN, VALID):
        (folder / name).unlink(missing_ok=True)
    for left in folder.glob(f"{DRAFTS}*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _drafts(folder: Path) -> Iterator[Path]:
    made = Path(mkdtemp(dir=folder, prefix=DRAFTS))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(job: TrainingJob, options: Options, drafts: Path, look: Callable[[], None]) -> Prepared:
    least = settings.TRAINING_MIN_EXAMPLES
    if job.validation_file_uid:
        examples = _checked(job, "training_file", drafts / TRAIN, least, look)
        return Prepared(examples, _checked(job, "validation_file", drafts / VALID, 1, look))
    if not options.validation_share:
        return Prepared(_checked(job, "training_file", drafts / TRAIN, least, look), 0)
    everything = drafts / "all.jsonl"
    rows = _checked(job, "training_file", everything, least, look)
    return _split(everything, rows, options, drafts, look)


def _checked(job: TrainingJob, param: str, target: Path, least: int, look: Callable[[], None]) -> int:
    """Write the file's rows to `target`. Returns how many."""
    limits = Limits(rows=settings.TRAINING_MAX_ROWS, line_bytes=settings.DATASET_ROW_MAX_BYTES, least=least)
    file: File | None = getattr(job, param)
    try:
        if file is None:
            raise FileNotFoundError
        content = file.content.storage.open(str(file.content.name), "rb")
    except FileNotFoundError as error:
        gone = LineError("file_not_found", "The file was deleted: upload it again, and create a new job.")
        raise _invalid(job, param, [gone], 0) from error
    with content, target.open("wb") as out:
        reader = Reader(content, job.method, limits)  # type: ignore[arg-type] # one of the two
        for count, row in enumerate(reader.rows()):
            if count % LOOK_EVERY == 0:
                look()
            if not reader.errors:
                out.write(escape_separators_in_bytes(_encode(row)) + b"\n")
        _flush(out)
    if reader.errors:
        raise _invalid(job, param, reader.errors, reader.bad)
    return reader.count


def _split(everything: Path, rows: int, options: Options, drafts: Path, look: Callable[[], None]) -> Prepared:
    """Knuth's selection sampling: exactly as many as asked, each row as likely as any other, one row in memory."""
    valid = min(max(round(rows * options.validation_share), 1), rows - 1)
    if not valid:
        everything.replace(drafts / TRAIN)
        return Prepared(rows, 0)
    chance, wanted = random.Random(options.seed), valid  # noqa: S311 - the same seed must choose the same rows
    with everything.open("rb") as source, (drafts / TRAIN).open("wb") as train, (drafts / VALID).open("wb") as apart:
        for number, line in enumerate(source):
            if number % LOOK_EVERY == 0:
                look()
            taken = chance.random() * (rows - number) < wanted
            wanted -= taken
            (apart if taken else train).write(line)
        _flush(train)
        _flush(apart)
    return Prepared(rows - valid, valid)


def _invalid(job: TrainingJob, param: str, found: list[LineError], bad: int) -> Invalid:
    uid = job.training_file_uid if param == "training_file" else job.validation_file_uid
    errors = [{"file": uid, **asdict(error)} for error in found[:MAX_ERRORS]]
    first = found[0]
    where = "" if first.line is None else f"Line {first.line:,}: "
    more = f" {bad:,}{' or more' * (bad >= MAX_ERRORS)} lines have errors; this is the first." if bad > 1 else ""
    name = "training" if param == "training_file" else "validation"
    return Invalid(param, f"The {name} file cannot be used. {where}{first.message}{more}", errors)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)  # without this the renames themselves may be lost
    finally:
        os.close(descriptor)
