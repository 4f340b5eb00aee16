"""Answers that were produced elsewhere become a column of a run.

They are copied into a table of the connection's own, and matched and moved in one transaction at the end.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import Max

from apps.batches.texts import answer_text
from apps.conversations.errors import RowError
from apps.core.errors import DomainError, Stopped
from apps.datasets import items
from apps.datasets.imports.flaws import MAX_ERRORS, Flaws
from apps.datasets.imports.readers import Flaw, Row
from apps.datasets.imports.sources import Source, find_file, opened
from apps.datasets.jobs import Work
from apps.datasets.models import Column, Import, Run

CHUNK_ROWS = 500
REFRESH_ITEMS = 5_000
MAX_SAMPLES = 64  # answers to one example
LOOK_EVERY = 100  # rows between two looks at whether somebody cancelled
MAX_COUNT = 2**31 - 1

_TABLE = """
CREATE TEMPORARY TABLE answers_in (
    line integer, choice integer, number bigint, key text, prompt text, text text, error text, finish_reason text,
    input_tokens integer, output_tokens integer
)
"""
_MATCH = """
CREATE TEMPORARY TABLE answers_matched AS
SELECT example_id, line, choice, row_number() OVER (PARTITION BY example_id ORDER BY line, choice) - 1 AS sample
FROM (
    SELECT i.example_id, t.line, t.choice FROM answers_in t
        JOIN datasets_item i ON i.run_id = %(run)s AND i.number = t.number
    UNION ALL
    SELECT i.example_id, t.line, t.choice FROM answers_in t
        JOIN datasets_example e ON e.dataset_id = %(dataset)s AND e.key = t.key AND e.key <> ''
        JOIN datasets_item i ON i.run_id = %(run)s AND i.example_id = e.id
    UNION ALL
    SELECT i.example_id, t.line, t.choice FROM answers_in t
        JOIN datasets_example e ON e.dataset_id = %(dataset)s AND e.prompt = t.prompt
        JOIN datasets_item i ON i.run_id = %(run)s AND i.example_id = e.id
) m
"""
_UNMATCHED = """
SELECT t.line, coalesce(t.number::text, t.key, left(t.prompt, 80)), count(*) OVER () FROM answers_in t
WHERE t.choice = 0 AND NOT EXISTS (SELECT FROM answers_matched m WHERE m.line = t.line) ORDER BY t.line LIMIT %(limit)s
"""
_MOVE = """
INSERT INTO datasets_answer (column_id, example_id, sample, text, error, finish_reason, input_tokens, output_tokens,
    latency_ms)
SELECT %(column)s, m.example_id, m.sample, t.text, t.error, t.finish_reason, t.input_tokens, t.output_tokens, 0
FROM answers_matched m JOIN answers_in t ON t.line = m.line AND t.choice = m.choice
"""


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer; of `number`, `key` and `prompt` one says to what."""

    number: int | None
    key: str | None
    prompt: str | None
    text: str = ""
    error: str = ""
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


def import_answers(work: Work[Import]) -> None:
    """Raises `Cancelled`, `Stopped`, and `DomainError` for a file that cannot be used."""
    job = work.job
    run = job.run
    if run is None:
        raise DomainError("The run was deleted.")
    flaws, rows = Flaws(job), 0
    with _tables(), opened(find_file(job.project, job.file_id)) as source:
        answers = _answers(source, flaws, work)
        while chunk := list(islice(answers, CHUNK_ROWS)):
            _copy(chunk)
            rows += len({line for line, _, _ in chunk})
        rows -= _match(run, flaws)
        flaws.settle(rows)
        _finish(work, run, rows, flaws, source.size)


@contextmanager
def _tables() -> Iterator[None]:
    _drop()
    with connection.cursor() as cursor:
        cursor.execute(_TABLE)
    try:
        yield
    finally:
        with suppress(Error):  # without a connection there are no tables
            _drop()


def _drop() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS pg_temp.answers_in, pg_temp.answers_matched")


def _answers(source: Source, flaws: Flaws, work: Work[Import]) -> Iterator[tuple[int, int, _Answer]]:
    """Line, place among the line's answers, answer."""
    for count, row in enumerate(source.rows(), start=1):
        if count % LOOK_EVERY == 0:
            work.report(min(source.done, source.size), source.size)
        if count > settings.DATASET_MAX_ROWS:
            raise DomainError(f"The file holds more than {settings.DATASET_MAX_ROWS:,} rows: split it.", param="file")
        if flaws.full:
            return
        try:
            for choice, answer in enumerate(_read(row)):
                yield row.line, choice, answer
        except RowError as error:
            flaws.add(row.line, str(error))


def _read(row: Row | Flaw) -> list[_Answer]:
    if isinstance(row, Flaw):
        raise RowError(row.message)
    target = _target(row.values)
    if "response" in row.values or isinstance(row.values.get("error"), dict):
        return _from_batch_output(row.values, target)
    text = row.values.get("answer", row.values.get("completion"))
    if not isinstance(text, str):
        raise RowError("The row has no 'answer' that is text.")
    return [_Answer(*target, text=text)]


def _target(values: Mapping[str, Any]) -> tuple[int | None, str | None, str | None]:
    """Which example is answered: by its number, by the row's own id, or by its prompt."""
    for name in ("custom_id", "number"):
        value = values.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            text = str(value)
            decimal = text.isascii() and text.isdecimal() and len(text) < 11
            return (int(text), None, None) if decimal else (None, text, None)
    if isinstance(prompt := values.get("prompt"), str):
        return None, None, prompt
    raise RowError("Say which example is answered: with 'custom_id', 'number' or 'prompt'.")


def _from_batch_output(values: Mapping[str, Any], target: tuple[int | None, str | None, str | None]) -> list[_Answer]:
    response = values.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(body, dict) or response.get("status_code", 200) != 200:
        error = values.get("error")
        said = answer_text(body) or (error.get("message") if isinstance(error, dict) else "")
        return [_Answer(*target, error=str(said or "The request failed."))]
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    tokens = [_count(usage.get(a, usage.get(b))) for a, b in _TOKENS]  # type: ignore[union-attr]
    choices = body.get("choices")
    parts = [{"choices": [choice]} for choice in choices] if isinstance(choices, list) and choices else [body]
    return [_Answer(*target, answer_text(part), "", _finish_reason(part), *tokens) for part in parts]


_TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else 0


def _finish_reason(part: Mapping[str, Any]) -> str:
    choice = part["choices"][0] if "choices" in part else part
    return str(choice.get("finish_reason") or "")[:30] if isinstance(choice, dict) else ""


def _copy(chunk: list[tuple[int, int, _Answer]]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY answers_in FROM STDIN") as copy:
        for line, choice, a in chunk:
            copy.write_row((
                line, choice, a.number, a.key, a.prompt, a.text, a.error, a.finish_reason, a.input_tokens,
                a.output_tokens,
            ))  # fmt: skip


def _match(run: Run, flaws: Flaws) -> int:
    """Find the examples. Returns how many rows answer none of the run's, each of which is a flaw."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE answers_in")
        cursor.execute(_MATCH, {"run": run.pk, "dataset": run.dataset_id})
        cursor.execute("SELECT max(sample) FROM answers_matched")
        if (cursor.fetchone()[0] or 0) >= MAX_SAMPLES:
            raise DomainError(f"The file holds more than {MAX_SAMPLES} answers to one example.", param="file")
        cursor.execute(_UNMATCHED, {"limit": MAX_ERRORS})
        unmatched = cursor.fetchall()
    for line, what, _ in unmatched:
        flaws.add(line, f"No example of this run is {what!r}.")
    total = int(unmatched[0][2]) if unmatched else 0
    flaws.count += total - len(unmatched)
    return total


def _finish(work: Work[Import], run: Run, rows: int, flaws: Flaws, size: int) -> None:
    job = work.job
    with transaction.atomic(), connection.cursor() as cursor:
        Run.objects.select_for_update().get(pk=run.pk)
        last = Column.objects.filter(run=run).aggregate(last=Max("position"))["last"]
        column = Column.objects.create(
            run=run, position=0 if last is None else last + 1, label=job.label or job.filename[:200]
        )
        cursor.execute(_MOVE, {"column": column.pk})
        cursor.execute("SELECT DISTINCT example_id FROM answers_matched ORDER BY 1")
        while ids := [pk for (pk,) in cursor.fetchmany(REFRESH_ITEMS)]:
            items.refresh_answers(run.pk, ids)
        items.refresh_columns([column.pk])
        values = {"rows": rows, "done": size, "total": size, **flaws.facts()}
        if not job.end(Import.Status.COMPLETED, flaws.sentence(rows), **values):
            raise Stopped
        work.fence()
