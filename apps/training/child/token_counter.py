"""The child that reads a job's prepared files as its trainer will, before a device is taken.

    python -m apps.training.child.token_counter SECONDS < SPEC.json

It runs in the trainer's interpreter. A model's tokenizer and chat template are programs of strangers: here, and not in
a server, there are limits on memory and time. One line of JSON comes out, `Checked` or `Failed`; what is left out goes
to a file in the job's folder.
"""

import importlib
import resource
import sys
import time
from pathlib import Path
from typing import Any, cast

import msgspec

from apps.training.child import examples
from apps.training.child.examples import Counts
from apps.training.child.failures import Refused
from apps.training.child.left_out import LeftOut, listing
from apps.training.child.rendering import Renderer
from apps.training.spec import FILE_KINDS, Checked, Failed, FileCheck, TrainingSpec

MEMORY_BYTES = 4 * 1024**3
REASONS = 5  # that are told here


def check(spec: TrainingSpec, *, seconds: float) -> Checked | Failed:
    """Of both files, as far as the time lasts."""
    try:
        renderer: Renderer = importlib.import_module("apps.training.child.tokenizer").renderer_of(spec)
        until = time.monotonic() + seconds
        with listing(Path(spec.folder)) as listed:
            training, validation = (Counts(left_out=LeftOut(kind, listed), until=until) for kind in FILE_KINDS)
            _read(spec, renderer, spec.train_file, training)
            if spec.valid_file:
                _read(spec, renderer, spec.valid_file, validation)
    except Refused as refused:
        return refused.failed
    return Checked(
        training=_told(training),
        validation=_told(validation) if spec.valid_file else None,
        dated=renderer.asks_for_date,
    )


def _read(spec: TrainingSpec, renderer: Renderer, path: str, counts: Counts) -> None:
    """Raises `Refused` for a model that can learn none of it; a file without anything to learn is counted."""
    try:
        for _ in examples.read(Path(path), renderer, spec.method, spec.options, counts):
            pass
    except Refused as refused:
        if refused.failed.code != "bad_data":
            raise


def _told(counts: Counts) -> FileCheck:
    reasons = {each["message"]: each["rows"] for each in counts.left_out.reasons.listed()[:REASONS]}
    return FileCheck(
        rows=counts.rows, examples=counts.examples, tokens=counts.tokens, cut=counts.cut, longest=counts.longest,
        without_reasoning=counts.without_reasoning, without_tools=counts.without_tools,
        left_out=counts.left_out.first, left_out_count=counts.left_out.count, reasons=reasons,
    )  # fmt: skip


if __name__ == "__main__":
    allowed = float(sys.argv[1])
    cast(dict[str, Any], sys.modules)["torch"] = None  # Transformers makes do without it, and starts in a third
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (2 * int(allowed) + 20, 2 * int(allowed) + 20))
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=TrainingSpec)
    print(msgspec.json.encode(check(order, seconds=allowed)).decode())
