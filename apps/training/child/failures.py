"""What stops a training for good, and the sentence that says what to do. Django-free, and free of torch too."""

import errno
import re
from collections.abc import Iterator

from apps.training.spec import Failed, Method, Technique, TrainingSpec

OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|not enough memory", re.I)
DISK_FULL = re.compile(r"no space left|os error 28|PytorchStreamWriter failed", re.I)
LONGEST = 1_000  # characters of a message
SHORTEST = 64  # tokens; a shorter `max_length` helps nobody


class Refused(Exception):
    """The training cannot go on; `failed` says why."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


def unsupported(message: str) -> Refused:
    return Refused(Failed(code="unsupported", message=message))


def bad_data(message: str) -> Refused:
    return Refused(Failed(code="bad_data", message=message))


def diverged(step: int, learning_rate: float) -> Refused:
    message = (
        f"At step {step} the loss was no number any more: training diverged. "
        f"Lower the learning rate, for instance from {learning_rate:g} to {learning_rate / 5:g}."
    )
    return Refused(Failed(code="diverged", message=message))


def disk_full(*, needed: int, free: int, reserve: int, folder: str) -> Refused:
    message = (
        f"A checkpoint takes about {_size(needed)}, and {folder} has {_size(free)} free, of which {_size(reserve)} "
        "stay free (TRAINING_DISK_RESERVE_BYTES): make room there, and training goes on from its last checkpoint."
    )
    return Refused(Failed(code="disk_full", message=message))


def explain(error: BaseException, spec: TrainingSpec) -> Failed:
    """What an exception of the child means for its job."""
    if isinstance(error, Refused):
        return error.failed
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or OUT_OF_MEMORY.search(text):
        return Failed(code="out_of_memory", message=out_of_memory(spec))
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or DISK_FULL.search(text):
        message = f"The disk of {spec.folder} is full: make room there, and training goes on from its last checkpoint."
        return Failed(code="disk_full", message=message)
    if isinstance(error, OSError) and spec.folder in str(error.filename or ""):
        message = f"{error.filename} cannot be written or read: {error.strerror}. Look at the disk and its rights."
        return Failed(code="checkpoint", message=message)
    return Failed(code="internal", message=f"The trainer broke: {text[:LONGEST]}. The log says where.")


def out_of_memory(spec: TrainingSpec) -> str:
    """Names the three settings to change, with the values to try."""
    first, second, third = list(_savings(spec))[:3]
    where = "the machine's memory" if spec.device == "cpu" else f"the memory of GPU {spec.device}"
    return f"The training does not fit into {where}: set {first}, {second} or {third}, or several of them."


def _savings(spec: TrainingSpec) -> Iterator[str]:
    """The most helpful first; always at least three."""
    options, gpu = spec.options, spec.device != "cpu"
    if options.batch_size > 1:
        half = options.batch_size // 2
        yield f"batch_size to {half} (with accumulation {-(-options.batch_size * options.accumulation // half)})"
    if options.max_length > SHORTEST:
        yield f"max_length to {max(options.max_length // 2, SHORTEST)}"
    if not options.gradient_checkpointing:
        yield "gradient_checkpointing to true"
    yield from _cheaper(spec.technique, spec.method, gpu=gpu)
    if spec.technique != "full" and options.rank > 1:
        yield f"rank to {options.rank // 2}"
    yield 'targets to ["q_proj", "v_proj"]'
    yield "the base model to a smaller one"
    yield "the device to one with more memory"


def _cheaper(technique: Technique, method: Method, *, gpu: bool) -> Iterator[str]:
    if technique == "full":
        yield "technique to lora"
    if technique != "qlora" and gpu:
        yield "technique to qlora"
    if method == "dpo":
        yield "method to sft, which keeps no second set of answers"


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
