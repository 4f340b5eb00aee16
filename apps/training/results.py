"""A job's result file: OpenAI's CSV of what was measured, a line a step."""

from collections.abc import Iterator

from apps.batches import storage
from apps.batches.models import File
from apps.core.ids import new_id
from apps.training.models import Metric, TrainingJob
from apps.training.spec import REWARDS

COLUMNS = {
    "step": "step",
    "train_loss": "loss",
    "train_accuracy": "token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_token_accuracy",
}
"""OpenAI's names, and the fields of `Metric`."""
REWARD_COLUMNS = {f"train_{name}": name for name in REWARDS} | {f"valid_{name}": f"valid_{name}" for name in REWARDS}
"""More of a job that learns preferences or thumbs; OpenAI has none of them."""
ROWS = 2_000  # that are fetched, and written, at once


def write_results(job: TrainingJob) -> File:
    """A file of the project, in the caller's transaction. Where that is rolled back, bytes stay that no row names."""
    name = f"{job.project.uid}/{new_id(f'{job.uid}.')}.csv"  # never the name that another worker writes
    stored = storage.write(name, _csv(job))
    return File.objects.create(
        project=job.project,
        filename=f"{job.uid}-results.csv",
        purpose=File.Purpose.FINE_TUNE_RESULTS,
        bytes=stored.bytes,
        sha256=stored.sha256,
        content=stored.name,
    )


def _csv(job: TrainingJob) -> Iterator[bytes]:
    """The same measurements give the same bytes. What was not measured at a step is empty."""
    columns = COLUMNS | REWARD_COLUMNS if job.method in TrainingJob.HAS_REWARDS else COLUMNS
    yield (",".join(columns) + "\n").encode()
    measured = Metric.objects.filter(job=job).order_by("step").values_list(*columns.values())
    lines: list[str] = []
    for row in measured.iterator(chunk_size=ROWS):
        lines.append(",".join(_number(value) for value in row))
        if len(lines) == ROWS:
            yield _block(lines)
            lines.clear()
    yield _block(lines)


def _block(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
