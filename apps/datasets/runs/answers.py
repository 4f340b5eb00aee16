"""Answers of models as rows: inserted once, never doubled; only what failed is ever replaced."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from django.db import connection
from django.db.models import F
from django.db.models.functions import Greatest

from apps.batches.answers import Said, incomplete
from apps.datasets import items
from apps.datasets.models import Column

_FIELDS = {
    "example_id": "bigint", "sample": "int", "text": "text", "error": "text", "finish_reason": "text",
    "reasoning": "text", "tool_calls": "text", "refusal": "text", "input_tokens": "int", "output_tokens": "int",
    "latency_ms": "int",
}  # fmt: skip

# A failed answer gives way to a later one, in place: what was said about it (an edit) stays with the example.
_PUT = f"""
INSERT INTO datasets_answer AS a (column_id, {", ".join(_FIELDS)})
SELECT %(column)s, {", ".join(_FIELDS)}
FROM unnest({", ".join(f"%({name})b::{kind}[]" for name, kind in _FIELDS.items())}) AS u({", ".join(_FIELDS)})
ON CONFLICT (column_id, example_id, sample) WHERE edit_of_id IS NULL DO UPDATE SET
    text = excluded.text, error = excluded.error, finish_reason = excluded.finish_reason,
    reasoning = excluded.reasoning, tool_calls = excluded.tool_calls, refusal = excluded.refusal,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, latency_ms = excluded.latency_ms,
    created_at = now()
WHERE a.error <> ''
"""  # noqa: S608 - constants only

_KNOWN = """
SELECT example_id, error FROM datasets_answer
WHERE column_id = %s AND example_id = ANY(%s) AND sample = 0 AND edit_of_id IS NULL
"""

_FAIL_MISSING = """
INSERT INTO datasets_answer (column_id, example_id, sample, text, error, finish_reason, input_tokens, output_tokens,
    latency_ms)
SELECT %(column)s, i.example_id, 0, '', %(error)s, '', 0, 0, 0 FROM datasets_item i
WHERE i.run_id = %(run)s AND i.number BETWEEN %(first)s AND %(last)s AND NOT EXISTS (
    SELECT FROM datasets_answer a
    WHERE a.column_id = %(column)s AND a.example_id = i.example_id AND a.edit_of_id IS NULL
)
ON CONFLICT (column_id, example_id, sample) WHERE edit_of_id IS NULL DO NOTHING RETURNING example_id
"""


class Row(NamedTuple):
    example_id: int
    sample: int = 0
    text: str = ""
    reasoning: str = ""
    tool_calls: str = ""
    refusal: str = ""
    finish_reason: str = ""
    error: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms: int = 0

    @property
    def said(self) -> Said:
        return Said(self.text, self.reasoning, self.tool_calls, self.refusal, self.finish_reason)


def failure(example_id: int, error: str, latency_ms: int = 0) -> Row:
    return Row(example_id, error=error, latency_ms=latency_ms)


def answer(example_id: int, sample: int, said: Said, **more: int) -> Row:
    return Row(example_id, sample, *said, **more)  # type: ignore[arg-type] # `Said` has these fields, in this order


def put(column: Column, rows: Sequence[Row]) -> None:
    """Write answers of a column, with what depends on them, in the caller's transaction.

    An example that has an answer keeps it. The column's counts are added to; `items.refresh_columns` counts exactly.
    """
    known = _known(column, rows)
    fresh = list({(row.example_id, row.sample): row for row in rows if known.get(row.example_id, "?")}.values())
    if not fresh:
        return
    _execute(_PUT, column=column.pk, **{name: [getattr(row, name) for row in fresh] for name in _FIELDS})
    items.refresh_answers(column.run_id, list({row.example_id for row in fresh}))
    first = [row for row in fresh if not row.sample]
    answered = [row for row in first if not row.error]
    replaced = sum(row.example_id in known for row in first)
    reasons = [found.code for row in answered if (found := incomplete(row.said))]
    counts = {"incomplete": len(reasons), "blank": reasons.count("blank")}
    _add(column, answered=len(answered), failed=len(first) - len(answered) - replaced, **counts)


def fail_missing(column: Column, first: int, last: int, error: str) -> int:
    """Give the examples numbered so, which have neither an answer nor an error, this error. How many there were."""
    values: dict[str, Any] = {"column": column.pk, "run": column.run_id, "first": first, "last": last, "error": error}
    with connection.cursor() as cursor:
        cursor.execute(_FAIL_MISSING, values)
        examples = [row[0] for row in cursor.fetchall()]
    if examples:
        items.refresh_answers(column.run_id, examples)
        _add(column, failed=len(examples))
    return len(examples)


def _known(column: Column, rows: Sequence[Row]) -> dict[int, str]:
    """Example -> its error, "" for an answer; those that have neither are missing."""
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, (column.pk, list({row.example_id for row in rows})))
        return dict(cursor.fetchall())


def _add(column: Column, **counts: int) -> None:
    Column.objects.filter(pk=column.pk).update(**{name: Greatest(F(name) + more, 0) for name, more in counts.items()})


def _execute(sql: str, **values: Any) -> None:
    """With binary parameters, which Django's own cursors do not send; in the same transaction."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(sql, values)
