"""Files as they are uploaded, and the control worker that works on their imports."""

import json
from collections.abc import Iterable
from typing import Any

from django.core.files.base import ContentFile

from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import create_file
from apps.core.leases import Keeper
from apps.datasets.models import Job

PATIENCE = 120.0  # seconds


def upload(project: Project, content: bytes | str, name: str = "rows.jsonl", purpose: str = "user_data") -> File:
    raw = content.encode() if isinstance(content, str) else content
    return create_file(project=project, filename=name, purpose=purpose, upload=ContentFile(raw, name))


def jsonl(rows: Iterable[Any]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def work_on(kind: Any, keeper: Keeper) -> None:
    """Work until every job of this kind has ended, as a control worker does."""
    while kind.duty(keeper) or not kind.crew.wait(0):
        assert kind.crew.wait(PATIENCE)


def ended(job: Any, keeper: Keeper, kind: Any) -> Any:
    work_on(kind, keeper)
    job.refresh_from_db()
    assert job.status in Job.ENDED
    return job
