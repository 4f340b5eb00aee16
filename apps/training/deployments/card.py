"""The card of a fine-tuned model: what the hub and people read first."""

import json

from apps.datasets.exports.formats.huggingface import plain
from apps.training.lineage import lineage
from apps.training.models import Checkpoint, TrainingJob


def card_of(checkpoint: Checkpoint, name: str) -> bytes:
    """Markdown with the hub's front matter. What people typed stands in it as text."""
    job = checkpoint.job
    source = job.base.source if job.base and job.base.source else job.base_name
    kind = ["library_name: transformers"] if job.technique == TrainingJob.Technique.FULL else ["library_name: peft"]
    front = [*kind, f"base_model: {json.dumps(source)}", "tags: [fine-tuned, vllm-batch-server]"]
    steps = [f"* **{plain(step.title)}** {plain(step.sentence)}" for step in lineage(job)]
    options = "\n".join(f"    {key}: {json.dumps(value)}" for key, value in sorted(job.options.items()))
    text = "\n".join(
        ["---", *front, "---", f"# {plain(name)}", "", f"Step {checkpoint.step:,} of {job.steps:,}.", "",
         "## Where it comes from", "", *steps, "", "## How it was trained", "", options, ""]
    )  # fmt: skip
    return text.encode("utf-8", "replace")
