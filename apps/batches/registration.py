"""Where batches announce themselves to the layers below, which know them only by these names."""

from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.progress import BatchTopic
from apps.batches.purge import purge_expired_files, purge_orphans, purge_uploads
from apps.batches.validate import validate_next
from apps.batches.work import BatchKind, uses_of
from apps.core import duties
from apps.events import progress
from apps.models import jobs, removal


def register() -> None:
    jobs.register("batches", BatchKind())
    removal.register("batches", uses_of)
    duties.register("validate batches", validate_next)
    duties.register("notice ended batches", notice_ended)
    duties.register("finalize batches", finalize_next)
    duties.register("purge expired files", purge_expired_files)
    duties.register("purge uploads", purge_uploads)
    duties.register("purge orphans", purge_orphans)
    progress.register("batch", BatchTopic())
