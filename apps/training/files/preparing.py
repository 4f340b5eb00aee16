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
from typing import IO, Any, Literal

import msgspec
from django.conf import settings

from apps.batches.line_lists import LineList
from apps.batches.models import File
from apps.core.json_lines import escape_separators_in_bytes
from apps.training.files.reading import MAX_ERRORS, Limits, LineError, Reader
from apps.training.files.rows import TEXTS
from apps.training.models import TrainingJob
from apps.training.options import Options, parse
from apps.training.presets import held_out_share
from apps.training.spec import LEFT_OUT

Part = Literal["train", "valid", "held_out"]
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
    held_out: int = 0
    """Rows that are in neither file, which a deployment is asked."""


class Invalid(Exception):
    """A file cannot be used. `param` names it, `errors` are as the job keeps them: the first."""

    def __init__(self, param: str, message: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.param, self.errors = param, errors


def prepare(job: TrainingJob, look: Callable[[], None], bad_rows: LineList) -> Prepared:
    """Write the job's files. `look` is called now and then, and may raise. Raises `OSError`, and `Invalid` once all
    bad rows are in `bad_rows`, as `FileErrorSerializer` has them."""
    job.folder.mkdir(parents=True, exist_ok=True)
    for left in job.folder.glob(f"{DRAFTS}*"):
        shutil.rmtree(left, ignore_errors=True)
    options = parse(job.options)
    with _drafts(job.folder) as drafts:
        prepared = _write(job, options, drafts, look, bad_rows)
        look()
        for name in (TRAIN, VALID):
            if (drafts / name).exists():
                (drafts / name).replace(job.folder / name)
    _sync(job.folder)
    return prepared


def remove_prepared(folder: Path) -> None:
    """What a job that has ended needs no more; its checkpoints stay."""
    for name in (TRAIN, VALID, LEFT_OUT):
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


def _write(job: TrainingJob, options: Options, drafts: Path, look: Callable[[], None], bad_rows: LineList) -> Prepared:
    least, validates = settings.TRAINING_MIN_EXAMPLES, bool(job.validation_file_uid)
    whole = drafts / (TRAIN if validates else "all.jsonl")
    found = {"training_file": _checked(job, "training_file", whole, least, look, bad_rows)}
    if validates:
        found["validation_file"] = _checked(job, "validation_file", drafts / VALID, 1, look, bad_rows)
    if any(reader.errors for reader in found.values()):
        raise _invalid(job, found)
    training = found["training_file"]
    if validates:
        apart = found["validation_file"]
        return _prepared(training, training.count, apart.count, more=apart.unused)
    parts = parts_of(job, training.count, options)
    _split(whole, training.count, parts, options.seed, drafts, look)
    return _prepared(training, training.count - sum(parts), *parts)


def parts_of(job: TrainingJob, rows: int, options: Options) -> tuple[int, int]:
    """Of so many rows of a training file: how many validate, and how many are held out. One is left to learn."""
    if job.validation_file_uid:
        return 0, 0
    valid = max(round(rows * options.validation_share), 1) if options.validation_share else 0
    usual = 0.0 if valid else held_out_share(rows)
    held_out = round(rows * float(job.chosen.get("held_out_share", usual)))
    valid = min(valid, rows - 1)
    return valid, min(held_out, rows - 1 - valid)


def parted(rows: int, parts: tuple[int, int], seed: int) -> Iterator[Part]:
    """For each row, where it belongs: Knuth's selection sampling, each row as likely as any other."""
    chance, (valid, held_out) = random.Random(seed), parts  # noqa: S311 - the same seed must choose the same rows
    for number in range(rows):
        if chance.random() * (rows - number) >= valid + held_out:
            yield "train"
        elif not held_out or (valid and chance.random() * (valid + held_out) < valid):
            valid -= 1
            yield "valid"
        else:
            held_out -= 1
            yield "held_out"


def _prepared(
    found: Reader, rows: int, valid: int, held_out: int = 0, *, more: Mapping[str, int] | None = None
) -> Prepared:
    """`more`: what is not used of the validation file."""
    return Prepared(
        rows, valid, unused=dict(found.unused + Counter(more)), ups=found.labels[True], downs=found.labels[False],
        plain_text=found.shape in TEXTS, held_out=held_out,
    )  # fmt: skip


def _checked(
    job: TrainingJob, param: str, target: Path, least: int, look: Callable[[], None], bad_rows: LineList
) -> Reader:
    """Write the file's rows to `target`, as long as they are good. What was found out about them."""
    limits = Limits(rows=settings.TRAINING_MAX_ROWS, line_bytes=settings.DATASET_ROW_MAX_BYTES, least=least)
    with _opened(job, param) as content, target.open("wb") as out:
        reader = Reader(content, job.method, limits)  # type: ignore[arg-type] # one of them
        for count, row in enumerate(reader.rows()):
            if count % LOOK_EVERY == 0:
                look()
            if isinstance(row, LineError):
                if row.line is not None:
                    bad_rows.add(_told(job, param, row))
            elif not reader.errors:
                out.write(escape_separators_in_bytes(_encode({"line": reader.line, **row})) + b"\n")
        _flush(out)
    return reader


def _opened(job: TrainingJob, param: str) -> IO[bytes]:
    """Raises `Invalid` for a file that was deleted."""
    file: File | None = getattr(job, param)
    try:
        if file is None:
            raise FileNotFoundError
        return file.content.storage.open(str(file.content.name), "rb")
    except FileNotFoundError as error:
        gone = LineError("file_not_found", "The file was deleted: upload it again, and create a new job.")
        raise Invalid(param, f"{_cannot(param)} {gone.message}", [_told(job, param, gone)]) from error


def _split(
    everything: Path, rows: int, parts: tuple[int, int], seed: int, drafts: Path, look: Callable[[], None]
) -> None:
    """One row in memory."""
    valid, held_out = parts
    if not valid and not held_out:
        everything.replace(drafts / TRAIN)
        return
    with everything.open("rb") as source, (drafts / TRAIN).open("wb") as train, (drafts / VALID).open("wb") as apart:
        into = {"train": train, "valid": apart}
        for number, (line, part) in enumerate(zip(source, parted(rows, parts, seed), strict=True)):
            if number % LOOK_EVERY == 0:
                look()
            if part in into:
                into[part].write(line)
        _flush(train)
        _flush(apart)
    if not valid:
        (drafts / VALID).unlink()


def _invalid(job: TrainingJob, found: Mapping[str, Reader]) -> Invalid:
    """Of files of which one at least has errors, by their names as parameters."""
    bad = {param: reader for param, reader in found.items() if reader.errors}
    errors = [_told(job, param, error) for param, reader in bad.items() for error in reader.errors]
    message = " ".join(_sentence(param, reader) for param, reader in bad.items())
    return Invalid(next(iter(bad)), message, errors[:MAX_ERRORS])


def _sentence(param: str, reader: Reader) -> str:
    first, bad = reader.errors[0], reader.bad
    where = "" if first.line is None else f"Line {first.line:,}: "
    more = f" {bad:,} lines have errors; this is the first." if bad > 1 else ""
    return f"{_cannot(param)} {where}{first.message}{more}"


def _cannot(param: str) -> str:
    return f"The {param.replace('_', ' ')} cannot be used."


def _told(job: TrainingJob, param: str, error: LineError) -> dict[str, Any]:
    uid = job.training_file_uid if param == "training_file" else job.validation_file_uid
    return {"file": uid, **asdict(error)}


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)  # without this the renames themselves may be lost
    finally:
        os.close(descriptor)
