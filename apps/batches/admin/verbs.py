"""What can be done with a batch from the admin: when it is offered, and what is said afterwards."""

from collections.abc import Callable
from dataclasses import dataclass

from apps.batches.models import Batch
from apps.batches.services import cancel_batch, pause_batch, resume_batch, retry_batch
from apps.core.errors import DomainError

STOPPABLE = (Batch.Status.VALIDATING, Batch.Status.IN_PROGRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    label: str
    icon: str
    offered: Callable[[Batch], bool]
    run: Callable[[Batch], str]
    """Returns what happened, as a sentence. Raises `DomainError`."""
    danger: bool = False


def _toggle(service: Callable[..., bool], done: str, refused: str) -> Callable[[Batch], str]:
    def run(batch: Batch) -> str:
        if not service(batch=batch):
            raise DomainError(refused.format(batch=batch))
        return done.format(batch=batch)

    return run


def _retry(batch: Batch) -> str:
    return f"{retry_batch(batch=batch)} runs the failed lines of {batch} again."


VERBS = {
    "pause": Verb(
        label="Pause",
        icon="pause",
        offered=lambda batch: batch.status in STOPPABLE and batch.paused_at is None,
        run=_toggle(pause_batch, "{batch} is paused.", "{batch} is {batch.status}: it cannot be paused now."),
    ),
    "resume": Verb(
        label="Resume",
        icon="play_arrow",
        offered=lambda batch: batch.status in STOPPABLE and batch.paused_at is not None,
        run=_toggle(resume_batch, "{batch} goes on.", "{batch} is not paused."),
    ),
    "retry": Verb(
        label="Retry failed lines",
        icon="replay",
        offered=lambda batch: batch.status not in Batch.OPEN and batch.failed_lines > 0,  # type: ignore[attr-defined]
        run=_retry,
    ),
    "cancel": Verb(
        label="Cancel",
        icon="stop",
        offered=lambda batch: batch.status in STOPPABLE,
        run=_toggle(
            cancel_batch,
            "{batch} is being cancelled; what is done is kept.",
            "{batch} is {batch.status}: it cannot be cancelled any more.",
        ),
        danger=True,
    ),
}
