"""The rows of a job's files of which nothing is learned, as a file that people can download.

The trainer's children write which they are to the job's folder (`LEFT_OUT`), each time they read all of the rows.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from apps.batches import storage
from apps.batches.models import File
from apps.batches.services import delete_file
from apps.core.json_lines import escape_separators_in_bytes
from apps.training.models import TrainingJob
from apps.training.spec import LEFT_OUT

_encode = msgspec.json.Encoder().encode


def keep_left_out(job: TrainingJob) -> dict[str, Any]:
    """What changes on the job's row, in the caller's transaction; the file of an earlier list is deleted.

    Where that is rolled back, bytes stay that no row names. Raises `OSError`.
    """
    digest, rows = hashlib.sha256(), 0
    for line in _lines(job):
        digest.update(line)
        rows += 1
    known = job.left_out_file
    if known and known.sha256 == digest.hexdigest():
        return {}
    if known:
        delete_file(file=known)
    return {"left_out": rows, "left_out_file": _stored(job) if rows else None}


def _stored(job: TrainingJob) -> File:
    file = File(project=job.project, filename=f"{job.uid}.left-out.jsonl", purpose=File.Purpose.USER_DATA)
    stored = storage.write(f"{job.project.uid}/{file.uid}", _lines(job))
    file.content, file.bytes, file.sha256 = stored.name, stored.bytes, stored.sha256
    file.save()
    return file


def _lines(job: TrainingJob) -> Iterator[bytes]:
    """JSON: the user's file, the line in it, what the row was for ("training" or "validation"), and the reason."""
    path = job.folder / LEFT_OUT
    if not path.is_file():
        return
    with path.open("rb") as listed:
        for found in map(msgspec.json.decode, listed):
            part = found["file"]
            uid = (part == "validation" and job.validation_file_uid) or job.training_file_uid
            line = {"file": uid, "line": found["line"], "part": part, "reason": found["reason"]}
            yield escape_separators_in_bytes(_encode(line)) + b"\n"
