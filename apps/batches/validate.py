"""The duty that turns an uploaded file into a batch's lines, or into its errors: all or nothing, in one transaction.

Killed at any moment, nothing of it is left; the next control worker starts over.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models.fields.files import FieldFile

from apps.batches.ingest import MAX_ERRORS, Limits, Line, LineError, Reader
from apps.batches.models import Batch, File
from apps.batches.owed import work_on_next
from apps.batches.refused import RefusedLines
from apps.core import bell, leases
from apps.core.errors import Stopped
from apps.core.text import storable
from apps.events.services import announce
from apps.models.models import Model
from apps.models.requests import catalog

COPY_ROWS = 5_000  # between two looks at whether the batch was cancelled
SHARD_BYTES = 32 * 1024**2  # of request bodies, which a worker holds in memory


class Interrupted(Stopped):
    """The batch is not ours to validate any more."""


def validate_next(keeper: leases.Keeper) -> bool:
    """Validate one batch that waits for it."""
    waiting = Batch.objects.filter(status=Batch.Status.VALIDATING)
    return work_on_next(waiting, keeper, lambda batch, held: _validate(batch, held, keeper))


class _Invalid(Exception):
    def __init__(self, errors: list[LineError]) -> None:
        self.errors = errors


def _validate(batch: Batch, held: leases.Held, keeper: leases.Keeper) -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            model, reader = _load(batch, cursor, keeper, held)
            cut_shards(cursor, batch.pk)
            leases.fence(cursor, held)
            values = {"model": model, "model_name": model.name, "total": reader.count, "warnings": _warnings(reader)}
            if not batch.advance(Batch.Status.IN_PROGRESS, **values):
                raise Interrupted
            bell.ring("gpu")
            bell.ring("control")  # where every line was refused, it has ended already
    except _Invalid as invalid:
        with transaction.atomic(), connection.cursor() as cursor:
            leases.fence(cursor, held)
            if batch.advance(Batch.Status.FAILED, errors=[_stored(error) for error in invalid.errors[:MAX_ERRORS]]):
                announce(type="batch.failed", project=batch.project, data={"id": batch.uid})


def _stored(error: LineError) -> dict[str, Any]:
    """Its texts may quote what the line holds."""
    return {name: storable(value) if isinstance(value, str) else value for name, value in asdict(error).items()}


def _load(batch: Batch, cursor: Any, keeper: leases.Keeper, held: leases.Held) -> tuple[Model, Reader]:
    """Copy the file's lines into the table, and the answers to those whose body was refused.

    Raises `_Invalid` with every error found.
    """
    catalog.refresh()
    refused = RefusedLines(cursor, batch.pk)
    with _open(batch) as content:
        reader = Reader(content.file, batch.endpoint, _limits())
        lines = reader.lines()
        while _copy(cursor, batch.pk, islice(lines, COPY_ROWS), refused):
            refused.write()
            _check_wanted(batch, keeper, held)
    errors = reader.errors + _duplicates(cursor, batch.pk)
    model = _model(batch, reader, errors)
    if errors or model is None:
        raise _Invalid(sorted(errors, key=lambda error: error.line or 0))
    return model, reader


def _open(batch: Batch) -> FieldFile:
    try:
        content = File.objects.of(batch.project).unexpired().get(uid=batch.input_file_id).content
        content.open("rb")
        return content
    except (File.DoesNotExist, FileNotFoundError) as error:
        message = f"No such file: {batch.input_file_id}. It was never there, was deleted, or has expired: upload it."
        raise _Invalid([LineError("invalid_request", message, None, "input_file_id")]) from error


def _limits() -> Limits:
    return Limits(
        requests=settings.BATCH_MAX_REQUESTS,
        line_bytes=settings.BATCH_LINE_MAX_BYTES,
        embedding_inputs=settings.BATCH_MAX_EMBEDDING_INPUTS,
        custom_id=settings.BATCH_CUSTOM_ID_MAX_CHARACTERS,
    )


def _warnings(reader: Reader) -> list[dict[str, Any]] | None:
    return [asdict(warning) for warning in reader.ignored] or None


def _copy(cursor: Any, batch_id: int, lines: Iterator[Line], refused: RefusedLines) -> bool:
    """Whether there was anything to copy."""
    rows = 0
    with cursor.copy("COPY batches_request (batch_id, line, custom_id, body) FROM STDIN") as copy:
        for line in lines:
            copy.write_row((batch_id, line.number, line.custom_id, line.body))
            rows += 1
            if line.refusal is not None:
                refused.note(line, line.refusal)
    return rows > 0


def _check_wanted(batch: Batch, keeper: leases.Keeper, held: leases.Held) -> None:
    if keeper.lost(held) or not Batch.objects.filter(pk=batch.pk, status=Batch.Status.VALIDATING).exists():
        raise Interrupted


def _duplicates(cursor: Any, batch_id: int) -> list[LineError]:
    """Every line whose custom_id an earlier line has; the database sorts, on disk where it must."""
    cursor.execute(
        "SELECT line, custom_id FROM (SELECT line, custom_id, row_number() OVER"
        " (PARTITION BY custom_id ORDER BY line) AS nth FROM batches_request WHERE batch_id = %s) AS numbered"
        " WHERE nth > 1 ORDER BY line LIMIT %s",
        (batch_id, MAX_ERRORS),
    )
    return [
        LineError("duplicate_custom_id", f"The custom_id {name!r} is used by an earlier line.", line, "custom_id")
        for line, name in cursor.fetchall()
    ]


def _model(batch: Batch, reader: Reader, errors: list[LineError]) -> Model | None:
    """The model that the lines name, if the batch may use it; otherwise one more error."""
    name, line = reader.model, reader.model_line
    if not name:
        return None
    model = Model.objects.usable_by(batch.project).select_related("base").filter(name=name).first()
    allowed = batch.created_by is None or batch.created_by.allows_model(name)
    if model is None or not allowed:
        message = f"The model {name!r} does not exist or you do not have access to it."
        errors.append(LineError("model_not_found", message, line, "body.model"))
        return None
    if batch.endpoint not in model.endpoints:
        message = f"The model {name!r} does not serve {batch.endpoint}; it serves {', '.join(sorted(model.endpoints))}."
        errors.append(LineError("invalid_request", message, line, "body.model"))
    return model


def cut_shards(cursor: Any, batch_id: int) -> None:
    """Cut the batch's requests into shards, in the order of their lines; a shard fits a worker's memory.

    Lines that have their result already, since their body was refused, count as failed from the start.
    """
    cursor.execute("SELECT EXISTS (SELECT FROM batches_result WHERE batch_id = %s)", (batch_id,))
    (refused,) = cursor.fetchone()
    cursor.execute(
        "INSERT INTO batches_shard (batch_id, first_line, last_line, lines, completed, failed,"
        " input_tokens, cached_tokens, output_tokens, reasoning_tokens)"
        " SELECT %(batch)s, min(line), max(line), count(*), 0, 0, 0, 0, 0, 0 FROM (SELECT line,"
        " (row_number() OVER in_order - 1) / %(lines)s AS by_lines,"
        " sum(octet_length(body)) OVER in_order / %(bytes)s AS by_bytes"
        " FROM batches_request WHERE batch_id = %(batch)s WINDOW in_order AS (ORDER BY line)) AS numbered"
        " GROUP BY by_lines, by_bytes ORDER BY 2",
        {"batch": batch_id, "lines": settings.BATCH_SHARD_LINES, "bytes": SHARD_BYTES},
    )
    if refused:
        cursor.execute(
            "UPDATE batches_shard s SET failed = counted.failed FROM"
            " (SELECT t.id, count(*) AS failed FROM batches_shard t JOIN batches_result r"
            " ON r.batch_id = t.batch_id AND r.line BETWEEN t.first_line AND t.last_line"
            " WHERE t.batch_id = %s GROUP BY t.id) AS counted WHERE s.id = counted.id",
            (batch_id,),
        )
