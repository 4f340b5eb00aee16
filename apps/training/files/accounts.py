"""What a job's files are worth to its trainer, in sentences, before a device is taken."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from apps.training.files.preparing import Invalid, Prepared
from apps.training.files.tokens import check_files
from apps.training.models import JobEvent, TrainingJob
from apps.training.spec import Checked, Failed, FileCheck
from apps.training.work import spec_of

LINES = 12  # that a sentence names
NAMES = {"training": "training_file", "validation": "validation_file"}


@dataclass(frozen=True, slots=True)
class Told:
    sentence: str
    level: str = JobEvent.Level.WARN
    data: dict[str, Any] = field(default_factory=dict)


def check(job: TrainingJob, prepared: Prepared) -> Checked | None:
    """What the trainer would make of the files; None where that cannot be found out here. Raises `Invalid` where it
    would learn nothing."""
    job.valid_examples = prepared.valid_examples
    checked = check_files(spec_of(job, "cpu"))
    if isinstance(checked, Failed):
        raise Invalid("model", checked.message, [])
    if checked is None:
        return None
    for name, found, rows in (
        ("training", checked.training, prepared.examples),
        ("validation", checked.validation, prepared.valid_examples),
    ):
        if found and found.rows == rows and not found.examples:
            raise _invalid(job, name, found)
    return checked


def warnings(checked: Checked) -> Iterator[Told]:
    """What a user has to know before it is learned."""
    for name, found in (("training", checked.training), ("validation", checked.validation)):
        if found is None:
            continue
        if found.left_out_count:
            yield Told(_left_out(name, found), data={"left_out": _data(name, found)})
        if found.cut:
            yield Told(f"{found.cut:,} {name} examples are longer than max_length: their ends are cut off.")
        if found.without_reasoning:
            yield Told(
                f"The chat template has no place for the reasoning of {found.without_reasoning:,} {name} examples: it "
                "is neither shown nor learned."
            )
        if found.without_tools:
            yield Told(
                f"The chat template has no place for the tools of {found.without_tools:,} {name} examples: the model "
                "does not see them, here or in requests."
            )
    if checked.dated:
        sentence = "The chat template writes the date: in all examples it is the day on which the job was created."
        yield Told(sentence, level=JobEvent.Level.INFO)


def _left_out(name: str, found: FileCheck) -> str:
    reasons = list(found.reasons.items())
    several = len(reasons) > 1
    why = "; ".join(f"{reason.rstrip('.')}{f' ({count:,})' if several else ''}" for reason, count in reasons)
    longest = f" The longest needs {found.longest:,} tokens." if found.longest else ""
    return f"{found.left_out_count:,} of {found.rows:,} {name} examples are left out: {why}.{longest} {_lines(found)}"


def _lines(found: FileCheck) -> str:
    lines = [f"{line:,}" for line, _ in found.left_out[:LINES]]
    more = found.left_out_count - len(lines)
    if more > 0:
        return f"Lines {', '.join(lines)} and {more:,} more."
    *others, last = lines
    return f"Lines {', '.join(others)} and {last}." if others else f"Line {last}."


def _data(name: str, found: FileCheck) -> dict[str, Any]:
    lines = [{"line": line, "reason": why} for line, why in found.left_out]
    return {"file": NAMES[name], "count": found.left_out_count, "of": found.rows, "longest": found.longest,
            "lines": lines}  # fmt: skip


def _invalid(job: TrainingJob, name: str, found: FileCheck) -> Invalid:
    param = NAMES[name] if name == "training" or job.validation_file_uid else "training_file"
    uid = job.validation_file_uid if param == "validation_file" else job.training_file_uid
    errors = [
        {"file": uid, "code": "nothing_to_learn", "message": f"It is left out: {why}", "line": line}
        for line, why in found.left_out
    ]
    return Invalid(param, f"Nothing can be learned of the {name} examples. {_left_out(name, found)}", errors)
