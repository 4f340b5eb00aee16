"""What a training will take, as far as its form is filled in: examples, steps, and the device's memory by part."""

from __future__ import annotations

from typing import Any

from apps.models.models import Device, Model
from apps.training.admin.wizard import Chosen
from apps.training.estimates import needs_of
from apps.training.memory import Estimate
from apps.training.models import TrainingJob

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
    counted = chosen.counted()
    plan = chosen.plan(counted)
    told: dict[str, Any] = {"usual": _usual_texts(chosen.usual(plan))}
    if counted:
        told |= {"examples": counted.rows, "validation": counted.validation, "exact": counted.exact}
        told |= {"held_out": counted.held_out}
    if plan:
        told |= {"steps": plan.steps, "reason": plan.reason, "warning": plan.warning}
    if chosen.base and chosen.are_options_sound():
        told["memory"] = _memory(chosen, chosen.base, chosen.usual(plan) | chosen.options())
    return told


def _usual_texts(usual: dict[str, Any]) -> dict[str, Any]:
    return {name: f"{value:g}" if isinstance(value, float) else value for name, value in usual.items()}


def _memory(chosen: Chosen, base: Model, options: dict[str, Any]) -> dict[str, Any]:
    """Of the largest device that a worker showed itself on."""
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
