"""Where a fine-tuned model comes from, back to the model and the answers that it all began with."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.template.defaultfilters import filesizeformat

from apps.datasets.exports.manifest import policy_of
from apps.datasets.models import Export, RunBatch, Version
from apps.training.models import Checkpoint, Deployment, TrainingJob

DEPLOYMENTS = 5
BATCHES = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One thing on the way back, with the page that shows it."""

    title: str
    sentence: str
    url: str = ""
    """The name of an admin page; empty where the thing is gone, or has none."""
    pk: int | None = None


def lineage(job: TrainingJob) -> list[Step]:
    """The latest first, in a constant number of queries."""
    rows = TrainingJob.objects.select_related("base", "training_file", "export__dataset", "export__run")
    job = rows.get(pk=job.pk)
    steps = [*_models(job), *_checkpoint(job), _job(job)]
    if job.export is None:
        return [*steps, _file(job), _base(job)]
    return [*steps, _export(job.export), *_data(job.export), _base(job)]


def _models(job: TrainingJob) -> Iterator[Step]:
    rows = Deployment.objects.filter(checkpoint__job=job).select_related("checkpoint")
    for row in rows.order_by("-pk")[:DEPLOYMENTS]:
        what = f"{row.get_status_display()}, {row.get_kind_display().lower()}, of step {row.checkpoint.step:,}."
        found = str(row.parity.get("sentence", ""))
        yield Step(f"Model {row.name}", f"{what} {found}".strip(), "admin:training_deployment_change", row.pk)


def _checkpoint(job: TrainingJob) -> Iterator[Step]:
    checkpoint: Checkpoint | None = job.checkpoints.order_by("-best", "-step").first()
    if checkpoint is not None:
        size, digest = filesizeformat(checkpoint.bytes), checkpoint.digest[:12]
        what = "The result" if checkpoint.best else "The latest so far"
        sentence = f"{what}: step {checkpoint.step:,} of {job.steps:,}, {size}, its manifest's SHA-256 {digest}…"
        yield Step(f"Checkpoint {checkpoint.uid}", sentence, "admin:training_trainingjob_change", job.pk)


def _job(job: TrainingJob) -> Step:
    how = f"{job.get_method_display()}; {job.get_technique_display()}"
    sentence = f"{job.get_status_display()}. {how}. {job.examples:,} examples, with {job.backend or 'no trainer yet'}."
    return Step(f"Fine-tuning job {job.uid}", sentence, "admin:training_trainingjob_change", job.pk)


def _file(job: TrainingJob) -> Step:
    if job.training_file is None:
        return Step(f"File {job.training_file_uid}", "It was deleted. It came from no export of the workbench.")
    size = filesizeformat(job.training_file.bytes)
    sentence = f"{job.training_file.filename}, {size}. It came from no export of the workbench."
    return Step(f"File {job.training_file_uid}", sentence, "admin:batches_file_change", job.training_file.pk)


def _export(export: Export) -> Step:
    sentence = f"{export.rows:,} rows as {export.format}: {policy_of(export.spec['answers'])}."
    return Step(f"Export {export.uid}", sentence, "admin:datasets_export_change", export.pk)


def _data(export: Export) -> Iterator[Step]:
    version = Version.objects.filter(dataset=export.dataset_id, number=export.spec["version"]).first()
    split = export.manifest.get("split") or {}
    part = f", the part {split['part']} of the split {split['name']}" if split else ""
    size = f"{version.examples:,} examples{part}." if version else "The version was deleted."
    title = f"Dataset {export.dataset} v{export.spec['version']}"
    yield Step(title, size, "admin:datasets_dataset_change", export.dataset_id)
    yield _stars(export)
    if export.run is not None:
        run, batches = export.run, list(_batches(export))
        asked = ", ".join(model["label"] for model in export.manifest.get("models", []))
        yield Step(f"Run {run}", f"Asked: {asked or 'nobody'}.", "admin:datasets_run_change", run.pk)
        yield from batches


def _stars(export: Export) -> Step:
    reviewers = export.manifest.get("reviewers", {})
    stars = sum(counts["stars"] for counts in reviewers.values())
    each = [f"{name} {_decided(counts)}" for name, counts in reviewers.items()]
    page = ("admin:datasets_run_change", export.run.pk) if export.run else ("", None)
    return Step(f"{stars:,} stars", f"{'; '.join(each) or 'Nobody reviewed these examples'}.", *page)


def _decided(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)


def _batches(export: Export) -> Iterator[Step]:
    rows = RunBatch.objects.filter(column__run=export.run_id).select_related("batch").order_by("pk")
    for row in rows[:BATCHES]:
        batch = row.batch
        sentence = f"{batch.total:,} requests to {batch.model_name}. {batch.get_status_display()}."
        yield Step(f"Batch {batch.uid}", sentence, "admin:batches_batch_change", batch.pk)


def _base(job: TrainingJob) -> Step:
    revision = f" Revision {job.base_revision[:12]}." if job.base_revision else ""
    if job.base is None:
        return Step(f"Base model {job.base_name}", f"It was deleted.{revision}")
    sentence = f"{job.base.source or 'From a folder of this server'}.{revision}"
    return Step(f"Base model {job.base_name}", sentence, "admin:models_model_change", job.base.pk)
