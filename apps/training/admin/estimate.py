"""What a training will take, as far as its form is filled in: examples, steps, and the device's memory by part."""

from __future__ import annotations

import math
from typing import Any

from django.core.files.storage import default_storage

from apps.batches.models import File
from apps.models.models import Device, Model
from apps.training.admin.option_fields import usual_of
from apps.training.admin.wizard import Chosen
from apps.training.estimates import needs_of
from apps.training.memory import Estimate
from apps.training.models import TrainingJob
from apps.training.options import Options, OptionsRefused, parse

COUNTED = 16 * 2**20  # bytes of a file whose lines are counted; of a longer one the rest is reckoned from them
BLOCK = 2**20
LABELS = {
    "weights": "Weights",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "overhead": "Overhead",
}


def of(chosen: Chosen) -> dict[str, Any]:
    """Ready for JSON. What cannot be told yet is left out."""
    told: dict[str, Any] = {"usual": _usual_texts(chosen)}
    options = _options(chosen)
    if chosen.file:
        told |= _examples(chosen, options)
    if chosen.base and options:
        told["memory"] = _memory(chosen, chosen.base)
    return told


def steps_of(examples: int, options: Options) -> int:
    """Of the optimizer, at most: packing and examples that are left out make them fewer."""
    if options.max_steps:
        return options.max_steps
    return math.ceil(options.epochs * math.ceil(examples / (options.batch_size * options.accumulation)))


def _options(chosen: Chosen) -> Options | None:
    try:
        return parse(usual_of(chosen.parameters) | chosen.options())
    except OptionsRefused:
        return None


def _usual_texts(chosen: Chosen) -> dict[str, Any]:
    return {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in usual_of(chosen.parameters).items()
    }


def _examples(chosen: Chosen, options: Options | None) -> dict[str, Any]:
    assert chosen.file  # noqa: S101 - the caller looked
    count, exact = (chosen.export.rows, True) if chosen.export else lines_of(chosen.file)
    if chosen.validation:
        valid = lines_of(chosen.validation)[0]
    else:
        valid = round(count * options.validation_share) if options else 0
        count -= valid
    told = {"examples": count, "exact": exact, "validation": valid}
    return told | ({"steps": steps_of(count, options)} if options else {})


def lines_of(file: File) -> tuple[int, bool]:
    """Its lines, and whether all of them were counted."""
    name, lines, read = file.content.name or "", 0, 0
    last = b"\n"
    try:
        with default_storage.open(name, "rb") as content:
            while read < COUNTED and (block := content.read(BLOCK)):
                lines, read, last = lines + block.count(b"\n"), read + len(block), block
    except OSError:
        return 0, False
    if read < file.bytes:
        return round(lines * file.bytes / read), False
    return lines + (not last.endswith(b"\n")), True


def _memory(chosen: Chosen, base: Model) -> dict[str, Any]:
    """Of the largest device that a worker showed itself on."""
    options = usual_of(chosen.parameters) | chosen.options()
    job = TrainingJob(method=chosen.method, technique=chosen.technique, options=options)
    parts = needs_of(job, base).parts
    if not parts:
        return {"sentence": f"What {base.name} takes is not known: its configuration has no usual shape."}
    device = Device.objects.order_by("-memory_bytes").first()
    most = device.memory_bytes if device else 0
    estimate = Estimate(**{name: parts[name] for name in LABELS})
    return {
        "parts": [{"name": name, "label": label, "bytes": parts[name]} for name, label in LABELS.items()],
        "total": estimate.total,
        "device": str(device) if device else "",
        "device_bytes": most,
        "sentence": estimate.sentence(most) if most else "No device has shown itself yet: start a GPU worker.",
        "verdict": "" if not most else "no" if estimate.total > most else "fits",
    }
