"""Large uploads: files that come in parts. A part that is answered is durable; a file is there whole or not at all.

Nothing of a file is in memory but a block. While parts are put together no pooled connection is held: that a second
request does not do the same work is seen to by a lock of a connection of its own, which dies with its process.
"""

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.core.files.base import File as Content
from django.db import connection, transaction
from django.db.models import Sum
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.batches import services, storage
from apps.batches.models import File, Upload, UploadPart
from apps.core.db import connect
from apps.core.errors import Conflict, DomainError

MAX_PARTS = 10_000
SPARE = 2  # times the file's bytes: what the parts may have together, since any may be sent again
AT_ONCE = 4  # completions in this process: each reads and writes as fast as the disk goes
WAIT_SECONDS = 30.0  # for the others, until a client is told to ask again
COMPLETING = timedelta(minutes=15)  # how long a completion that began in time may take
REMEMBERED = timedelta(days=1)  # one that has ended, so that asking again gives the same answer

_places = threading.BoundedSemaphore(AT_ONCE)


def largest(purpose: str) -> int:
    """The most bytes that a file of this purpose may have, however it comes."""
    own = settings.BATCH_FILE_MAX_BYTES if purpose == File.Purpose.BATCH else settings.UPLOAD_MAX_BYTES
    return min(own, settings.UPLOAD_MAX_BYTES)


def create_upload(*, project: Project, filename: str, purpose: str, size: int, expires_after: int | None) -> Upload:
    """One that waits for parts of `size` bytes together. Raises `DomainError`, and `OSError` without room for them."""
    services.check_upload(filename, purpose, size, expires_after, largest=largest(purpose))
    pending = Upload.objects.of(project).filter(status=Upload.Status.PENDING, expires_at__gt=Now())
    if pending.count() >= settings.UPLOADS_PENDING:
        message = f"The project has {settings.UPLOADS_PENDING} uploads that are pending: complete or cancel some."
        raise DomainError(message, code="too_many_uploads")
    storage.check_room(size)
    upload = Upload.objects.create(
        project=project, filename=filename, purpose=purpose, bytes=size, expires_after=expires_after,
        expires_at=Now() + timedelta(seconds=settings.UPLOAD_SECONDS),
    )  # fmt: skip
    upload.refresh_from_db()
    return upload


def add_part(*, upload: Upload, content: Content[Any]) -> UploadPart:
    """Keep a part. Raises `DomainError`; then nothing was kept."""
    _check_part(content.size)
    part = UploadPart(upload=upload, bytes=content.size)
    stored = services.store(f"{upload.project.uid}/{upload.uid}.{part.uid}", content)
    part.content.name = stored.name
    try:
        with transaction.atomic():
            _lock_pending(upload)
            _check_sum(upload, part.bytes)
            part.save()
    except BaseException:
        storage.delete(stored.name)
        raise
    part.refresh_from_db()
    return part


def complete_upload(*, upload: Upload, part_ids: Sequence[str], md5: str | None = None) -> Upload:
    """Make the file of these parts, in this order. The same parts again give the same answer.

    Raises `Conflict` where the upload has ended otherwise or is being completed now, `DomainError` for other parts than
    it has, `OSError`. Whatever is raised, the upload is as it was.
    """
    with _alone(upload):
        upload.refresh_from_db()
        if upload.status == Upload.Status.COMPLETED and upload.part_ids == list(part_ids):
            return upload
        _check_pending(upload)
        parts = _chosen(upload, part_ids)
        digest = hashlib.md5(usedforsecurity=False) if md5 else None
        file = File(project=upload.project, filename=upload.filename, purpose=upload.purpose)
        stored = storage.write(f"{upload.project.uid}/{file.uid}", _blocks(parts, digest))
        try:
            if digest and digest.hexdigest() != str(md5).lower():
                message = f"The parts in this order have the MD5 checksum {digest.hexdigest()}, not {str(md5)[:32]}."
                raise DomainError(message, param="md5", code="checksum_mismatch")
            _seal(upload, file, stored, part_ids)
        except BaseException:
            storage.delete(stored.name)
            raise
    return upload


def cancel_upload(*, upload: Upload) -> Upload:
    """Give it up; its parts are deleted. Raises `Conflict` unless it is pending, or was cancelled before."""
    with transaction.atomic():
        if not _end(upload, Upload.Status.CANCELLED) and upload.status != Upload.Status.CANCELLED:
            _check_pending(upload)
    return upload


def expire_uploads(limit: int) -> int:
    """Delete the parts of pending uploads that are over, and forget what ended long ago. Returns how many were over."""
    over = Upload.objects.filter(status=Upload.Status.PENDING, expires_at__lte=Now() - COMPLETING)
    found = list(over.order_by("expires_at")[:limit])
    for upload in found:
        with transaction.atomic():
            _end(upload, Upload.Status.EXPIRED)
    ended = Upload.objects.exclude(status=Upload.Status.PENDING).filter(expires_at__lte=Now() - REMEMBERED)
    ended.filter(pk__in=ended.order_by("expires_at").values("pk")[:limit]).delete()
    return len(found)


def _end(upload: Upload, status: str, **values: Any) -> bool:
    """In the caller's transaction. The parts go with its commit."""
    ended = upload.end(status, **values)
    if ended:
        contents = list(upload.parts.values_list("content", flat=True))
        upload.parts.all().delete()
        for content in contents:  # one that cannot be removed keeps no other from going; `purge_orphans` tries again
            transaction.on_commit(partial(storage.delete, content), robust=True)
    return ended


def _seal(upload: Upload, file: File, stored: storage.Stored, part_ids: Sequence[str]) -> None:
    with transaction.atomic():
        services.save_file(file, stored, upload.expires_after)
        if not _end(upload, Upload.Status.COMPLETED, file=file, part_ids=list(part_ids)):
            raise Conflict(f"The upload was {upload.status} meanwhile.")


def _check_part(size: int) -> None:
    if not size:
        raise DomainError("The part is empty.", param="data", code="empty_part")
    if size > settings.UPLOAD_PART_MAX_BYTES:
        message = f"A part has at most {settings.UPLOAD_PART_MAX_BYTES:,} bytes: send smaller ones."
        raise DomainError(message, param="data", code="file_too_large")


def _lock_pending(upload: Upload) -> None:
    """Until the transaction ends it is pending, and its parts are these."""
    _check_pending(Upload.objects.select_for_update().get(pk=upload.pk))


def _check_pending(upload: Upload) -> None:
    status = upload.status
    if status == Upload.Status.PENDING:
        if Upload.objects.filter(pk=upload.pk, expires_at__gt=Now()).exists():
            return
        status = Upload.Status.EXPIRED
    again = "" if status == Upload.Status.COMPLETED else " Create a new one."
    raise Conflict(f"The upload is {status}.{again}")


def _check_sum(upload: Upload, size: int) -> None:
    parts = upload.parts.aggregate(bytes=Sum("bytes", default=0))["bytes"]
    if size > upload.bytes or parts + size > SPARE * upload.bytes:
        message = (
            f"The upload was created for {upload.bytes:,} bytes, and has parts of {parts:,}; another {size:,} are too "
            "many. Complete it with the parts it has, or cancel it and create one of the right size."
        )
        raise DomainError(message, param="data", code="too_many_bytes")
    if upload.parts.count() >= MAX_PARTS:
        raise DomainError(f"An upload has at most {MAX_PARTS:,} parts: send larger ones.", param="data")


def _chosen(upload: Upload, part_ids: Sequence[str]) -> list[UploadPart]:
    known = {part.uid: part for part in upload.parts.all()}
    for part_id in part_ids:
        if part_id not in known:
            raise _bad_parts(f"The upload has no part {part_id[:60]!r}.")
    if len(set(part_ids)) < len(part_ids):
        raise _bad_parts("part_ids names a part twice: upload it a second time where its bytes come twice.")
    parts = [known[part_id] for part_id in part_ids]
    total = sum(part.bytes for part in parts)
    if total != upload.bytes:
        raise _bad_parts(f"The parts have {total:,} bytes together, and the upload was created for {upload.bytes:,}.")
    return parts


def _bad_parts(message: str) -> DomainError:
    return DomainError(message, param="part_ids", code="invalid_value")


def _blocks(parts: list[UploadPart], digest: Any) -> Iterator[bytes]:
    for part in parts:
        for block in storage.read(str(part.content)):
            if digest:
                digest.update(block)
            yield block


@contextmanager
def _alone(upload: Upload) -> Iterator[None]:
    """Raises `Conflict` while another request completes the same upload."""
    if not connection.in_atomic_block:
        connection.close()  # back to the pool: this may take a minute
    deadline = time.monotonic() + WAIT_SECONDS
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise Conflict("The server is completing other uploads. Send the same request again.")
    try:
        with connect() as lock:
            while not _locked(lock, f"complete {upload.uid}"):
                if time.monotonic() > deadline:
                    raise Conflict("The upload is being completed by another request. Send the same one again.")
                time.sleep(WAIT_SECONDS / 60)
            yield
    finally:
        _places.release()


def _locked(lock: psycopg.Connection[Any], name: str) -> bool:
    """Until the connection ends."""
    found = lock.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
    return bool(found and found[0])
