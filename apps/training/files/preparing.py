"""Training files become the files that a trainer reads: every row checked, some of them kept apart for validation.

Every row has its line number in the user's file with it, so that a trainer can name it.

The same job gives the same bytes. So it does not matter who of two workers finishes, and one that is killed leaves
nothing but a draft, which the next one removes.
"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

import msgspec
from django.conf import settings

from apps.batches.models import File
from apps.core.json_lines import escape_separators_in_bytes
from apps.training.files.reading import MAX_ERRORS, Limits, LineError, Reader
from apps.training.files.rows import TEXTS
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
    unused: dict[str, int] = field(default_factory=dict)
    """Keys of which nothing is made, with the rows that have them."""
    ups: int = 0
    """Examples with a thumb up, before some are kept apart."""
    downs: int = 0
    plain_text: bool = False
    """Whether prompts are texts that are learned as they stand, without the chat template."""


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
    if not job.validation_file_uid and options.validation_share:
        everything = drafts / "all.jsonl"
        found = _checked(job, "training_file", everything, least, look)
        rows, valid = _split(everything, found.count, options, drafts, look)
        return _prepared(found, rows, valid)
    found = _checked(job, "training_file", drafts / TRAIN, least, look)
    if not job.validation_file_uid:
        return _prepared(found, found.count, 0)
    apart = _checked(job, "validation_file", drafts / VALID, 1, look)
    return _prepared(found, found.count, apart.count, apart.unused)


def _prepared(found: Reader, rows: int, valid: int, more: Mapping[str, int] | None = None) -> Prepared:
    """`more`: what is not used of the validation file."""
    return Prepared(
        rows, valid, unused=dict(found.unused + Counter(more)), ups=found.labels[True], downs=found.labels[False],
        plain_text=found.shape in TEXTS,
    )  # fmt: skip


def _checked(job: TrainingJob, param: str, target: Path, least: int, look: Callable[[], None]) -> Reader:
    """Write the file's rows to `target`. What was found out about them."""
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
        reader = Reader(content, job.method, limits)  # type: ignore[arg-type] # one of them
        for count, row in enumerate(reader.rows()):
            if count % LOOK_EVERY == 0:
                look()
            if not reader.errors:
                out.write(escape_separators_in_bytes(_encode({"line": reader.line, **row})) + b"\n")
        _flush(out)
    if reader.errors:
        raise _invalid(job, param, reader.errors, reader.bad)
    return reader


def _split(everything: Path, rows: int, options: Options, drafts: Path, look: Callable[[], None]) -> tuple[int, int]:
    """How many rows are trained on, and how many validate.

    Knuth's selection sampling: exactly as many as asked, each row as likely as any other, one row in memory."""
    valid = min(max(round(rows * options.validation_share), 1), rows - 1)
    if not valid:
        everything.replace(drafts / TRAIN)
        return rows, 0
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
    return rows - valid, valid


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
