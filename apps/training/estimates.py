"""What a job will take of its device's memory, before it starts."""

import json
from dataclasses import dataclass, field
from typing import Any

from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import read_tensors
from apps.models.models import Device, Model
from apps.models.slots import Slot
from apps.training import memory
from apps.training.models import TrainingJob
from apps.training.options import parse

CONFIG_BYTES = 4 * 1024**2  # of a config.json that is read
ODD = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What the configuration of another kind of model leads to."""


@dataclass(frozen=True, slots=True)
class Needs:
    parts: dict[str, int] = field(default_factory=dict)
    """Bytes by part; empty: not known."""
    warning: str = ""
    """A sentence, where no device that has shown itself has so much."""


def needs_of(job: TrainingJob, base: Model) -> Needs:
    """By the model's configuration and headers, on the largest device."""
    device = Device.objects.order_by("-memory_bytes").first()
    try:
        estimate = memory.estimate(
            _config(base),
            parameters=parameters_of(base),
            method=job.method,  # type: ignore[arg-type] # the column's choices are the type's
            technique=job.technique,  # type: ignore[arg-type]
            options=parse(job.options),
            on_cpu=device is None or Slot.parse(device.slot).devices == "cpu",
        )
    except ODD:
        return Needs()
    short = device is not None and 0 < device.memory_bytes < estimate.total
    return Needs(estimate.as_dict(), estimate.sentence(device.memory_bytes) if device and short else "")


def parameters_of(base: Model) -> int:
    """Counted in the weights' headers; where these cannot be read, by what they take on the disk at 16 bits."""
    try:
        files = sorted(base.folder.glob("*.safetensors"))
        found = sum(tensor.parameters for path in files for tensor in read_tensors(path))
    except (OSError, Refused):
        found = 0
    return found or base.bytes // 2


def _config(base: Model) -> dict[str, Any]:
    """Raises ValueError where there is none."""
    try:
        with (base.folder / "config.json").open("rb") as file:
            config = json.loads(file.read(CONFIG_BYTES))
    except OSError as error:
        raise ValueError("it cannot be read") from error
    if not isinstance(config, dict):
        raise ValueError("it is no object")
    return config
