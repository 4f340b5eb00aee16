"""What can be done with files and batches; the API, the admin and the commands call these."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import File as Upload
from django.db import connection, transaction
from django.db.models.functions import Now

from apps.accounts.models import ApiKey, Project
from apps.batches import storage
from apps.batches.models import Batch, File
from apps.batches.refused import REFUSED
from apps.batches.validate import cut_shards
from apps.core import attempts, bell
from apps.core.errors import Conflict, DomainError
from apps.core.text import is_storable
from apps.events import progress
from apps.events.services import announce

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
UPLOAD_PURPOSES = (File.Purpose.BATCH, File.Purpose.FINE_TUNE, File.Purpose.USER_DATA, File.Purpose.EVALS)
EXPIRY_SECONDS = (3600, 2_592_000)  # OpenAI's bounds: an hour to 30 days
WINDOW = re.compile(r"([1-9][0-9]{0,2})([hd])")
MAX_WINDOW = timedelta(days=30)
PRIORITIES = (-100, 100)
LINES = (File.Purpose.BATCH, File.Purpose.FINE_TUNE)  # purposes whose files are JSON Lines
LINES_SUFFIXES = (".jsonl", ".ndjson", ".json")
SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}\Z", re.IGNORECASE)  # of a known kind of file; a date or a version is none
MAX_METADATA = (16, 64, 512)  # pairs, characters of a key, characters of a value


def create_file(
    *, project: Project, filename: str, purpose: str, upload: Upload[Any], expires_after_seconds: int | None = None
) -> File:
    """Keep an upload. Batch files expire after `BATCH_FILE_DAYS` unless told otherwise, others never.

    `upload` is an upload of a request or any open `django.core.files.File`. Raises `DomainError`.
    """
    check_upload(filename, purpose, upload.size, expires_after_seconds, largest=settings.FILE_MAX_BYTES)
    file = File(project=project, filename=filename, purpose=purpose)
    stored = store(f"{project.uid}/{file.uid}", upload)
    try:
        with transaction.atomic():
            save_file(file, stored, expires_after_seconds)
    except BaseException:
        storage.delete(stored.name)
        raise
    file.refresh_from_db()
    return file


def save_file(file: File, stored: storage.Stored, expires_after_seconds: int | None) -> None:
    """The row and the event of a file whose bytes are stored, in the caller's transaction."""
    file.content, file.bytes, file.sha256 = stored.name, stored.bytes, stored.sha256
    if expires_after_seconds is None and file.purpose == File.Purpose.BATCH:
        expires_after_seconds = settings.BATCH_FILE_DAYS * 86_400
    if expires_after_seconds is not None:
        file.expires_at = Now() + timedelta(seconds=expires_after_seconds)
    file.save()
    announce(type="file.created", project=file.project, data={"id": file.uid})


def delete_file(*, file: File) -> None:
    """Forget the file, and its bytes once that is committed. Batches made from it keep their lines."""
    with transaction.atomic():
        file.delete()
        transaction.on_commit(lambda: storage.delete(str(file.content)), robust=True)  # `purge_orphans` tries again


def create_batch(
    *,
    project: Project,
    input_file: File | str,
    endpoint: str,
    completion_window: str = "24h",
    metadata: dict[str, str] | None = None,
    output_expires_after: int | None = None,
    priority: int = 0,
    created_by: ApiKey | None = None,
) -> Batch:
    """A batch that waits for its file to be validated. Raises `DomainError` for what can be seen without reading it.

    `input_file` may be the id of a file that is not there: as OpenAI's, such a batch is made, and fails.
    """
    if isinstance(input_file, File):
        _check_input(input_file)
    if endpoint not in ENDPOINTS:
        message = f"No batches for the endpoint {endpoint!r}; choose from {', '.join(ENDPOINTS)}."
        raise DomainError(message, param="endpoint", code="invalid_value")
    check_metadata(metadata)
    with transaction.atomic():
        batch = Batch.objects.create(
            project=project,
            created_by=created_by,
            endpoint=endpoint,
            input_file_id=input_file.uid if isinstance(input_file, File) else input_file,
            completion_window=completion_window,
            expires_at=Now() + window(completion_window),
            output_expires_after=output_expires_after,
            metadata=metadata,
            priority=priority,
        )
        _tell(batch, "control")
    batch.refresh_from_db()
    return batch


def _check_input(input_file: File) -> None:
    """Raises `DomainError`."""
    if input_file.purpose != File.Purpose.BATCH:
        message = f"The file's purpose is '{input_file.purpose}': upload it with the purpose 'batch'."
        raise DomainError(message, param="input_file_id", code="invalid_value")
    if input_file.bytes > settings.BATCH_FILE_MAX_BYTES:
        message = f"A batch's file may have {settings.BATCH_FILE_MAX_BYTES:,} bytes: split it into several batches."
        raise DomainError(message, param="input_file_id", code="file_too_large")


def cancel_batch(*, batch: Batch) -> bool:
    """Stop the batch and keep what is done. False when it has ended, is ending, or was cancelled before."""
    with transaction.atomic():
        changed = batch.advance(Batch.Status.CANCELLING)
        if changed:
            _tell(batch, "control", "gpu")
    return changed


def pause_batch(*, batch: Batch) -> bool:
    """Send none of its lines to an engine until it is resumed; its window goes on. False when it cannot be paused."""
    return _set_paused(batch, Now(), paused_at=None)


def resume_batch(*, batch: Batch) -> bool:
    """False when it is not paused."""
    return _set_paused(batch, None, paused_at__isnull=False)


def retry_batch(*, batch: Batch, created_by: ApiKey | None = None) -> Batch:
    """A new batch of the lines that failed, numbered from 1, with their custom_ids; or of the whole file, where the
    server failed to read it. Raises `Conflict`.

    Lines whose body was refused before anything was sent are left out: they would be refused again.
    """
    if batch.status in Batch.OPEN:
        raise Conflict(f"The batch is {batch.status}: its failed lines can be retried once it has ended.")
    if batch.model is None and any(error["code"] == attempts.CODE for error in batch.errors or []):
        return _read_again(batch, created_by)
    if batch.model is None:
        raise Conflict("Nothing of this batch can be run again: its input file had errors, or its model is gone.")
    if created_by is not None and not created_by.allows_model(batch.model_name):
        raise Conflict(f"This API key may not use the model {batch.model_name!r}.")
    with transaction.atomic():
        retry = Batch.objects.create(
            project=batch.project,
            created_by=created_by or batch.created_by,
            endpoint=batch.endpoint,
            input_file_id=batch.input_file_id,
            completion_window=batch.completion_window,
            expires_at=Now() + window(batch.completion_window),
            output_expires_after=batch.output_expires_after,
            metadata=batch.metadata,
            priority=batch.priority,
            retry_of=batch,
        )
        lines = _copy_failed_lines(batch, retry)
        retry.advance(Batch.Status.IN_PROGRESS, model=batch.model, model_name=batch.model_name, total=lines)
        _tell(retry, "gpu")
    return retry


def window(text: str) -> timedelta:
    """How long "24h" or "7d" is, at most 30 days. Raises `DomainError`."""
    match = WINDOW.fullmatch(text)
    if match:
        span = timedelta(**{{"h": "hours", "d": "days"}[match[2]]: int(match[1])})
        if span <= MAX_WINDOW:
            return span
    message = "completion_window must be '24h', or another number of hours ('48h') or days ('7d') up to 30 days."
    raise DomainError(message, param="completion_window", code="invalid_value")


def check_metadata(metadata: dict[str, str] | None) -> None:
    """Raises `DomainError` unless it is within OpenAI's bounds, and text that PostgreSQL takes."""
    pairs, key_length, value_length = MAX_METADATA
    items = (metadata or {}).items()
    if len(items) > pairs:
        raise _bad_metadata(f"metadata holds more than {pairs} pairs.")
    for key, value in items:
        if not isinstance(value, str):
            raise _bad_metadata(f"metadata's value of {key[:key_length]!a} must be a string.")
        if len(key) > key_length or len(value) > value_length:
            raise _bad_metadata(f"metadata's keys have at most {key_length} characters, its values {value_length}.")
        if not is_storable(key + value):
            raise _bad_metadata("metadata must not hold NUL characters or lone surrogates.")


def _bad_metadata(message: str) -> DomainError:
    return DomainError(message, param="metadata", code="invalid_value")


def check_upload(filename: str, purpose: str, size: int, expires_after: int | None, *, largest: int) -> None:
    """Raises `DomainError` for what can be seen without the content; `size` and `largest` are in bytes."""
    if not filename or len(filename) > 255 or not filename.isprintable():
        raise DomainError("The file's name must have 1 to 255 printable characters.", param="file")
    if purpose not in UPLOAD_PURPOSES:
        message = f"purpose must be one of {', '.join(UPLOAD_PURPOSES)}."
        raise DomainError(message, param="purpose", code="invalid_value")
    _check_suffix(filename, purpose)
    if not size:
        raise DomainError("The file is empty.", param="file", code="empty_file")
    if size > largest:
        message = f"The file is larger than {largest:,} bytes, which is the most for the purpose '{purpose}' here."
        raise DomainError(message, param="file", code="file_too_large")
    shortest, longest = EXPIRY_SECONDS
    if expires_after is not None and not shortest <= expires_after <= longest:
        raise DomainError(f"A file expires after {shortest} to {longest} seconds.", param="expires_after[seconds]")


def _check_suffix(filename: str, purpose: str) -> None:
    """A name without a suffix is fine, as many clients send bytes; what is in the file is checked when it is used.

    Raises `DomainError`.
    """
    suffix = SUFFIX.search(filename)
    if purpose in LINES and suffix and suffix[0].lower() not in LINES_SUFFIXES:
        message = (
            f"A file for the purpose '{purpose}' is JSON Lines, one JSON object per line: convert {filename[-50:]!r}, "
            "or if it is that already, let its name end in .jsonl."
        )
        raise DomainError(message, param="file", code="invalid_file_format")


def store(name: str, upload: Upload[Any]) -> storage.Stored:
    """Keep an upload. One that was spooled to disk, its hash taken on the way, needs no second copy."""
    sha256 = getattr(upload, "sha256", None)
    if sha256 is None:
        return storage.write(name, upload.chunks())
    return storage.adopt(name, Path(upload.temporary_file_path()), size=upload.size, sha256=sha256)  # type: ignore[attr-defined]


def _set_paused(batch: Batch, value: Any, **only: Any) -> bool:
    open_ = (Batch.Status.VALIDATING, Batch.Status.IN_PROGRESS)
    with transaction.atomic():
        changed = Batch.objects.filter(pk=batch.pk, status__in=open_, **only).update(paused_at=value)
        if changed:
            batch.refresh_from_db()
            _tell(batch, "gpu")
    return bool(changed)


def _read_again(batch: Batch, created_by: ApiKey | None) -> Batch:
    input_file = File.objects.of(batch.project).filter(uid=batch.input_file_id).first()
    if input_file is None:
        raise Conflict("The batch's input file was deleted: upload it again.")
    with transaction.atomic():
        retry = create_batch(
            project=batch.project,
            input_file=input_file,
            endpoint=batch.endpoint,
            completion_window=batch.completion_window,
            metadata=batch.metadata,
            output_expires_after=batch.output_expires_after,
            priority=batch.priority,
            created_by=created_by or batch.created_by,
        )
        Batch.objects.filter(pk=retry.pk).update(retry_of=batch)
    retry.refresh_from_db()
    return retry


def _copy_failed_lines(batch: Batch, retry: Batch) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off")  # quadratic where statistics lag behind a new batch
        cursor.execute(
            "INSERT INTO batches_request (batch_id, line, custom_id, body)"  # noqa: S608 - a constant
            " SELECT %s, row_number() OVER (ORDER BY q.line), q.custom_id, q.body FROM batches_result r"
            " JOIN batches_request q ON q.batch_id = r.batch_id AND q.line = r.line"
            f" WHERE r.batch_id = %s AND r.failed AND NOT ({REFUSED})",
            (retry.pk, batch.pk),
        )
        lines: int = cursor.rowcount
        if not lines:
            raise Conflict(_nothing_to_retry(cursor, batch))
        cut_shards(cursor, retry.pk)
    return lines


def _nothing_to_retry(cursor: Any, batch: Batch) -> str:
    cursor.execute(f"SELECT count(*) FROM batches_result WHERE batch_id = %s AND {REFUSED}", (batch.pk,))  # noqa: S608
    (refused,) = cursor.fetchone() or (0,)
    if not refused:
        return "No line of this batch failed: there is nothing to retry."
    return (
        f"All lines that failed ({refused:,}) were refused for what they ask, and would be again:"
        " correct them as the error file says, and send them in a new file."
    )


def _tell(batch: Batch, *bells: str) -> None:
    """Wake who works on it, and who watches it, after the commit."""
    for name in bells:
        bell.ring(name)
    progress.hint("batch", batch.uid)
