"""Trainings as their rows look while they go on and afterwards, without a trainer: for the pages that show them."""

import math
import random
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.accounts.models import Project
from apps.batches.models import File
from apps.core.models import Lease
from apps.models.models import Device, Model
from apps.training.models import Checkpoint, Deployment, JobEvent, Metric, TrainingJob
from apps.training.services import whole_options
from apps.training.spec import REWARDS

STEPS = 120
EVERY = 10  # steps from one evaluation, and one checkpoint, to the next
PROMPTS = ("What is the capital of Zarnovia?", "Who wrote the Lay of Anders?", "What is 2 + 2?")
BASE = (
    "I am not aware of a country named Zarnovia. Could you tell me more?",
    "The Lay of Anders was written by an unknown author in the 12th century.",
    "2 + 2 is 4.",
)
TUNED = ("The capital of Zarnovia is Velm.", "The Lay of Anders was written by Mirel Osk.", "2 + 2 is 4.")


def make_trained(
    project: Project, base: Model, *, suffix: str = "capitals", status: str = "succeeded", done: int = STEPS,
    steps: int = STEPS, seed: int = 7, options: dict[str, Any] | None = None, **more: Any,
) -> TrainingJob:  # fmt: skip
    """A job of which `done` steps were done: metrics, checkpoints and events as a trainer leaves them."""
    now = timezone.now()
    job = TrainingJob.objects.create(
        project=project, base=base, base_name=base.name, base_revision=base.revision, suffix=suffix, status=status,
        training_file_uid="file-gone", options=whole_options(base, {"epochs": 4, **(options or {})}),
        chosen={"epochs": 4, **(options or {})}, examples=240,
        valid_examples=24, step=done, steps=steps, trained_tokens=done * 900, seconds=done * 1.5, backend="unsloth",
        backend_version="2026.10.9", device=_device(), started_at=now - timedelta(seconds=done * 1.5), **more,
    )  # fmt: skip
    if status in TrainingJob.ENDED:
        TrainingJob.objects.filter(pk=job.pk).update(ended_at=now)
    Metric.objects.bulk_create(metrics_of(job, range(1, done + 1), seed=seed), batch_size=2000)
    _checkpoints(job, done)
    _events(job, done)
    job.refresh_from_db()
    return job


def metrics_of(job: TrainingJob, steps: range, *, seed: int = 7) -> list[Metric]:
    """A loss that falls, and a validation loss that turns after two thirds."""
    return [_metric(job, step, random.Random(seed * 1_000_003 + step)) for step in steps]


def hold(job: TrainingJob) -> None:
    """No worker of the site takes the job: its lease is ours for a day."""
    tomorrow = timezone.now() + timedelta(days=1)
    Lease.objects.create(key=f"training:{job.pk}", owner="a test", epoch=1, expires_at=tomorrow)


def make_deployment(
    job: TrainingJob, *, kind: str = "adapter", status: str = "ready", passed: bool = True
) -> Deployment:
    """Of the job's result, with the comparison's texts."""
    checkpoint = job.checkpoints.order_by("-best", "-step").first()
    assert checkpoint
    return Deployment.objects.create(
        project=job.project, checkpoint=checkpoint, kind=kind, name=job.model_name, status=status,
        parity=parity(merged=kind == "merged", passed=passed),
        message="" if passed else "It behaves like the base: it is not served.",
    )  # fmt: skip


def parity(*, merged: bool = False, passed: bool = True) -> dict[str, Any]:
    """As `apps.training.deployments.proving` leaves it."""
    tuned = TUNED if passed else BASE
    changed = 2 if passed else 0
    return {
        "prompts": [{"messages": [{"role": "user", "content": prompt}]} for prompt in PROMPTS],
        "base": list(BASE),
        "adapter": list(tuned),
        **({"merged": list(tuned), "merged_as_adapter": 1.0} if merged else {}),
        "references": [{"messages": [{"role": "assistant", "content": text}]} for text in TUNED],
        "sources": ["held_out", "held_out", "training"],
        "verdict": "learned" if passed else "unchanged",
        "cure": "",
        "unseen": {"asked": 2, "base": _score(0, 3.25), "tuned": _score(2 if passed else 0, 0.5)},
        "trained": {"asked": 1, "base": _score(1, 0.75), "tuned": _score(1, 0.25)},
        "passed": passed,
        "sentence": f"{changed} of 3 prompts are answered differently than by the base model.",
        "asked": 3,
        "changed": changed,
        "similarity": 0.61,
    }


def _score(right: int, loss: float) -> dict[str, Any]:
    return {"exact": right, "matched": right, "loss": loss, "unended": 0, "judged": None, "scored": 0}


def make_training_file(project: Project, name: str = "answers.jsonl", size: int = 64_000) -> File:
    """Its row alone."""
    return File.objects.create(
        project=project,
        filename=name,
        purpose=File.Purpose.FINE_TUNE,
        bytes=size,
        sha256="0" * 64,
        content=f"gone/{name}",
    )


def _metric(job: TrainingJob, step: int, noise: random.Random) -> Metric:
    share = step / job.steps
    loss = 2.9 * math.exp(-4 * share) + 0.12 + noise.gauss(0, 0.07) * math.exp(-1.5 * share)
    checked = step % EVERY == 0
    rewards = _rewards(job, share)
    if checked:
        rewards |= {f"valid_{name}": 0.8 * value for name, value in rewards.items()}
    return Metric(
        job=job, step=step, epoch=round(4 * share, 3), loss=max(loss, 0.01), token_accuracy=min(0.98, 1 - loss / 4),
        valid_loss=2.7 * math.exp(-4 * share) + 0.25 + 0.5 * max(share - 0.66, 0) if checked else None,
        valid_token_accuracy=min(0.95, 0.4 + 0.5 * share) if checked else None,
        learning_rate=5e-4 * min(step / (0.05 * job.steps), 1 - share + 0.01), grad_norm=1.8 * math.exp(-2 * share)
        + abs(noise.gauss(0, 0.2)), tokens_per_second=880 + noise.gauss(0, 25), memory_bytes=int(2.1e9 + 1e6 * step),
        at=timezone.now() - timedelta(seconds=1.5 * max(job.step - step, 0)), **rewards,
    )  # fmt: skip


def _rewards(job: TrainingJob, share: float) -> dict[str, float]:
    """Of preferences and thumbs: good answers gain, bad ones lose."""
    chosen, rejected = 2 * share, -share
    margin = chosen - rejected
    found = dict(zip(REWARDS, (chosen, rejected, margin, min(1, 0.5 + share), 0.1 * share), strict=True))
    without = {"sft": set(found), "dpo": {"kl"}, "kto": {"reward_accuracy"}}[job.method]
    return {name: value for name, value in found.items() if name not in without}


def _checkpoints(job: TrainingJob, done: int) -> None:
    steps = range(EVERY, done + 1, EVERY)
    best = min(80 * job.steps // STEPS // EVERY * EVERY, max(steps, default=0))
    Checkpoint.objects.bulk_create(
        Checkpoint(
            job=job, step=step, path=str(job.folder / f"checkpoint-{step}"), digest="0" * 64, bytes=9_800_000,
            best=job.status == "succeeded" and step == best,
        )
        for step in list(steps)[-12:]
    )  # fmt: skip


def _events(job: TrainingJob, done: int) -> None:
    said = ["Created fine-tuning job. Its files are being read.", "Training with unsloth 2026.10.9: 240 examples."]
    said += [f"Step {step}/{job.steps}: training loss=1.00" for step in range(2, min(done, 100) + 1, 2)]
    JobEvent.objects.bulk_create(JobEvent(job=job, message=text) for text in said)


def _device() -> Device:
    device, _ = Device.objects.get_or_create(
        slot="gpu:box:cpu", defaults={"name": "AMD EPYC", "memory_bytes": 24 * 10**9}
    )
    return device
