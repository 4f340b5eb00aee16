"""A batch's results as OpenAI's output lines, streamed from the rows."""

from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
from django.db import connection

from apps.batches.models import Batch
from apps.core.json_lines import escape_separators, escape_separators_in_bytes

FETCH = 500  # rows in memory at a time
RESULTS = (
    "SELECT line, custom_id, status_code, request_id, body, error_code, error_message"
    " FROM batches_result WHERE batch_id = %s AND failed = %s"
)

_json = msgspec.json.encode


def output_lines(source: psycopg.Connection[Any], batch: Batch, *, failed: bool) -> Iterator[bytes]:
    """The lines of the output file, or of the error file, in input order, as they are at one moment.

    The connection must not autocommit, and the lines be taken without a pause: PostgreSQL ends idle transactions.
    """
    with source.cursor(name=f"output_{batch.pk}") as cursor:
        cursor.itersize = FETCH
        cursor.execute(f"{RESULTS} ORDER BY line", (batch.pk, failed))
        for row in cursor:
            yield _output_line(batch.uid, *row)


def output_so_far(batch: Batch, *, failed: bool) -> Iterator[bytes]:
    """The same lines in pages, for whoever takes them as slowly as they like: nothing is held between two pages.

    Each page is as the rows are when it is read. So while the batch runs each line comes at most once, and in input
    order; one that ends after its page was read does not come.
    """
    after = end = 0
    while after < end or after < (end := _last_line(batch.pk)):
        for row in _page(batch.pk, failed, after):
            yield _output_line(batch.uid, *row)
        after += FETCH


def _last_line(batch: int) -> int:
    """That has a result by now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(line), 0) FROM batches_result WHERE batch_id = %s", (batch,))
        return int(cursor.fetchone()[0])


def _page(batch: int, failed: bool, after: int) -> list[tuple[Any, ...]]:
    """A range of lines: with a LIMIT instead PostgreSQL may sort all that is left of the batch, for each page."""
    with connection.cursor() as cursor:
        cursor.execute(f"{RESULTS} AND line > %s AND line <= %s ORDER BY line", (batch, failed, after, after + FETCH))
        return list(cursor.fetchall())


def _output_line(
    uid: str,
    line: int,
    custom_id: str,
    status: int | None,
    request_id: str,
    body: str | None,
    code: str,
    message: str,
) -> bytes:
    """An answer of the engine, 4xx ones included, has a response; what never got one has an error."""
    head = b'{"id":"%s","custom_id":%s,' % (request_uid(uid, line).encode(), _text(custom_id))
    if status is None:
        return b'%s"response":null,"error":%s}\n' % (
            head,
            escape_separators_in_bytes(_json({"code": code, "message": message})),
        )
    answer = escape_separators(body or "null").encode()
    response = b'{"status_code":%d,"request_id":%s,"body":%s}' % (status, _json(request_id), answer)
    return b'%s"response":%s,"error":null}\n' % (head, response)


def _text(value: str) -> bytes:
    return _json(value) if value.isascii() else escape_separators_in_bytes(_json(value))


def request_uid(batch: str, line: int) -> str:
    """The public id of a batch's line: the same each time it is written."""
    return f"batch_req_{batch.removeprefix('batch_')}{line:07x}"
