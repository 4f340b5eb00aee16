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

from apps.batches.answers import REASONING, Said, answers_in
from apps.batches.line_lists import saved
from apps.conversations.errors import RowError
from apps.core.errors import DomainError, Stopped
from apps.datasets import items
from apps.datasets.imports.accounting import FieldCounter
from apps.datasets.imports.batch_output import MAX_FINISH, Outcome, is_batch_output, outcomes
from apps.datasets.imports.flaws import Flaws, recorded
from apps.datasets.imports.readers import Flaw, Row
from apps.datasets.imports.sources import Source, find_file, opened
from apps.datasets.jobs import Work
from apps.datasets.models import Column, Import, Run

CHUNK_ROWS = 500
REFRESH_ITEMS = 5_000
MAX_SAMPLES = 64  # answers to one example
TEXTS = ("answer", "completion", "response")
"""Columns that say an answer's text."""
BESIDE = {**dict.fromkeys(REASONING, "reasoning"), "tool_calls": "calls of tools", "function_call": "calls of tools",
          "refusal": "refusal", "finish_reason": "finish reason"}  # fmt: skip
"""Columns that say what else there is of an answer, as a message of the assistant's does."""
USES = {
    **dict.fromkeys(("custom_id", "number", "prompt"), "which example"), **dict.fromkeys(TEXTS, "answer"), **BESIDE,
    "error": "error",
}  # fmt: skip
"""Columns that are read, with what each becomes."""
LOOK_EVERY = 100  # rows between two looks at whether somebody cancelled

_TABLES = """
CREATE TEMPORARY TABLE answers_in (
    row integer, choice integer, line integer, place text, number bigint, key text, prompt text, text text, error text,
    finish_reason text, reasoning text, tool_calls text, refusal text, input_tokens integer, output_tokens integer
);
CREATE TEMPORARY TABLE answers_found (row integer, example_id bigint, number bigint)
"""
# A row's own id comes before an example's number, which "1" may be too; and it is no number where that example has an
# id that is one. What fits several examples is found several times.
_FIND = (
    """
INSERT INTO answers_found SELECT t.row, e.id, e.number FROM answers_in t
    JOIN datasets_example e ON e.dataset_id = %(dataset)s AND e.key = t.key AND e.key <> ''
    JOIN datasets_item i ON i.run_id = %(run)s AND i.example_id = e.id
WHERE t.choice = 0
""",
    "ANALYZE answers_found",
    """
INSERT INTO answers_found SELECT t.row, e.id, e.number FROM answers_in t
    JOIN datasets_item i ON i.run_id = %(run)s AND i.number = t.number
    JOIN datasets_example e ON e.id = i.example_id
    LEFT JOIN answers_found f ON f.row = t.row
WHERE t.choice = 0 AND f.row IS NULL AND (t.key IS NULL OR e.key !~ '^[0-9]+$')
""",
    """
INSERT INTO answers_found SELECT t.row, e.id, e.number FROM answers_in t
    JOIN datasets_example e ON e.dataset_id = %(dataset)s AND e.prompt = t.prompt
    JOIN datasets_item i ON i.run_id = %(run)s AND i.example_id = e.id
WHERE t.choice = 0
""",
    "ANALYZE answers_found",
    """
CREATE TEMPORARY TABLE answers_places AS
SELECT row, min(example_id) AS example_id, count(*) AS examples, (array_agg(number ORDER BY number))[1:5] AS numbers
FROM answers_found GROUP BY row
""",
    """
CREATE TEMPORARY TABLE answers_matched AS
SELECT p.example_id, t.row, t.choice, row_number() OVER (PARTITION BY p.example_id ORDER BY t.row, t.choice) - 1
    AS sample
FROM answers_in t JOIN answers_places p USING (row) WHERE p.examples = 1
""",
)
_UNMATCHED = """
SELECT t.row, t.line, t.place, t.number, t.key, left(t.prompt, 80), p.examples, p.numbers, left(e.key, 80)
FROM answers_in t
    LEFT JOIN answers_places p USING (row)
    LEFT JOIN datasets_item i ON p.row IS NULL AND i.run_id = %(run)s AND i.number = t.number
    LEFT JOIN datasets_example e ON e.id = i.example_id
WHERE t.choice = 0 AND p.examples IS DISTINCT FROM 1 AND t.row > %(after)s ORDER BY t.row LIMIT %(limit)s
"""
_IDS_LIKE_NUMBERS = """
SELECT count(*) FROM answers_in t JOIN answers_places p USING (row) JOIN answers_found f USING (row)
WHERE t.choice = 0 AND p.examples = 1 AND t.key IS NOT NULL AND t.number IS NOT NULL AND f.number <> t.number
"""
_MOVE = """
INSERT INTO datasets_answer (column_id, example_id, sample, text, error, finish_reason, reasoning, tool_calls, refusal,
    input_tokens, output_tokens, latency_ms)
SELECT %(column)s, m.example_id, m.sample, t.text, t.error, t.finish_reason, t.reasoning, t.tool_calls, t.refusal,
    t.input_tokens, t.output_tokens, 0
FROM answers_matched m JOIN answers_in t ON t.row = m.row AND t.choice = m.choice
"""
_DROP = (
    "DROP TABLE IF EXISTS pg_temp.answers_in, pg_temp.answers_found, pg_temp.answers_places, pg_temp.answers_matched"
)


@dataclass(frozen=True, slots=True)
class _Target:
    """Which example is answered. A row's own id that is decimal may be an example's number, so both are set."""

    number: int | None = None
    key: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a row of the file holds."""

    line: int
    place: str
    target: _Target
    outcomes: list[Outcome]


def import_answers(work: Work[Import]) -> None:
    """Raises `Cancelled`, `Stopped`, and `DomainError` for a file that cannot be used."""
    job = work.job
    run = job.run
    if run is None:
        raise DomainError("The run was deleted.")
    rows = 0
    fields = FieldCounter(USES, keeps_rows=False)
    with _tables(), recorded(job, fields) as flaws, opened(find_file(job.project, job.file_id)) as source:
        flaws.notes = source.notes
        answers = _answers(source, fields, flaws, work)
        while chunk := list(islice(answers, CHUNK_ROWS)):
            _copy(chunk, rows)
            rows += len(chunk)
        rows -= _match(run, flaws)
        flaws.settle(rows)
        _finish(work, run, rows, flaws, source.size)


@contextmanager
def _tables() -> Iterator[None]:
    _drop()
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
    try:
        yield
    finally:
        with suppress(Error):  # without a connection there are no tables
            _drop()


def _drop() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_DROP)


def _answers(source: Source, fields: FieldCounter, flaws: Flaws, work: Work[Import]) -> Iterator[_Answers]:
    for count, row in enumerate(source.rows(), start=1):
        if count % LOOK_EVERY == 0:
            work.report(min(source.done, source.size), source.size)
        if count > settings.DATASET_MAX_ROWS:
            raise DomainError(f"The file holds more than {settings.DATASET_MAX_ROWS:,} rows: split it.", param="file")
        if isinstance(row, Flaw):
            flaws.add(row.line, row.message)
            continue
        try:
            found = _read(row)
        except RowError as error:
            flaws.add(row.line, _placed(row.place, str(error)))
            continue
        fields.add(row)
        yield found


def _read(row: Row) -> _Answers:
    target = _target(row.values)
    if is_batch_output(row.values):
        return _Answers(row.line, row.place, target, outcomes(row.values))
    return _Answers(row.line, row.place, target, [Outcome(_said(row.values))])


def _said(values: Mapping[str, Any]) -> Said:
    """Raises `RowError` for a row without an answer, and for one with two."""
    texts = {name: values[name] for name in TEXTS if values.get(name) is not None}
    if not all(isinstance(text, str) for text in texts.values()):
        raise RowError("The row has no 'answer' that is text.")
    if len(set(texts.values())) > 1:
        names = " and ".join(repr(name) for name in texts)
        raise RowError(f"The row has different answers in {names}: leave one of them.")
    message = {name: values[name] for name in BESIDE if values.get(name)}
    if not texts and not message.keys() & {"tool_calls", "function_call", "refusal"}:
        raise RowError("The row has no 'answer' that is text.")
    choice = {"message": {"content": next(iter(texts.values()), "")} | message}
    (said,) = answers_in({"choices": [choice | {"finish_reason": values.get("finish_reason")}]})
    return said._replace(finish_reason=said.finish_reason[:MAX_FINISH])


def _target(values: Mapping[str, Any]) -> _Target:
    """By the row's own id, else by the example's number, else by its prompt. "003" is no number."""
    for name in ("custom_id", "number"):
        value = values.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            text = str(value)
            number = int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else None
            if number is None or str(number) != text:
                return _Target(key=text)
            return _Target(number, text if name == "custom_id" else None)
    if isinstance(prompt := values.get("prompt"), str):
        return _Target(prompt=prompt)
    raise RowError("Say which example is answered: with 'custom_id', 'number' or 'prompt'.")


def _copy(chunk: list[_Answers], first: int) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY answers_in FROM STDIN") as copy:
        for row, found in enumerate(chunk, start=first):
            for choice, made in enumerate(found.outcomes):
                to, said = found.target, made.said
                copy.write_row((
                    row, choice, found.line, found.place, to.number, to.key, to.prompt, said.text, made.error,
                    said.finish_reason, said.reasoning, said.tool_calls, said.refusal, made.input_tokens,
                    made.output_tokens,
                ))  # fmt: skip


def _match(run: Run, flaws: Flaws) -> int:
    """Find the examples. Returns how many rows answer none of the run's or several, each of which is a flaw."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE answers_in")
        for statement in _FIND:
            cursor.execute(statement, {"run": run.pk, "dataset": run.dataset_id})
        cursor.execute("SELECT max(sample) FROM answers_matched")
        if (cursor.fetchone()[0] or 0) >= MAX_SAMPLES:
            raise DomainError(f"The file holds more than {MAX_SAMPLES} answers to one example.", param="file")
        before, after = flaws.count, -1
        while unmatched := _unmatched(cursor, run, after):
            for _, line, place, *what in unmatched:
                flaws.add(line, _placed(place, _why_unmatched(*what)))
            after = unmatched[-1][0]
    return flaws.count - before


def _unmatched(cursor: Any, run: Run, after: int) -> list[Any]:
    """A page of them."""
    cursor.execute(_UNMATCHED, {"run": run.pk, "after": after, "limit": REFRESH_ITEMS})
    return list(cursor.fetchall())


def _why_unmatched(
    number: int | None, key: str | None, prompt: str | None, examples: int | None, numbers: list[int] | None, other: str
) -> str:
    """`other` is the id of the example whose number it may have been."""
    if examples:
        what = f"Prompt {prompt!r}" if key is None else f"Id {key!r}"
        named = ", ".join(map(str, numbers or [])) + (" …" if examples > len(numbers or []) else "")
        return f"{what} fits {examples:,} examples of this run, the numbers {named}: say which with 'number'."
    if other and key is not None:
        return (
            f"No example of this run has the id {key!r}, but number {number} has the id {other!r}: say 'number' for it."
        )
    return f"No example of this run is {key if key is not None else prompt if number is None else str(number)!r}."


def _placed(place: str, message: str) -> str:
    return f"{place}: {message}" if place else message


def _finish(work: Work[Import], run: Run, rows: int, flaws: Flaws, size: int) -> None:
    job = work.job
    with flaws.listed_file() as file, transaction.atomic(), connection.cursor() as cursor:
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
        cursor.execute(_IDS_LIKE_NUMBERS)
        sentence = f"{flaws.sentence(rows)}{_as_ids(cursor.fetchone()[0])}"
        values = {"rows": rows, "done": size, "total": size, "errors_file": saved(file), **flaws.facts()}
        if not job.end(Import.Status.COMPLETED, sentence, **values):
            raise Stopped
        work.fence()


def _as_ids(count: int) -> str:
    """Said because such a file may have meant numbers: those of a run's own batches are."""
    if not count:
        return ""
    return f" {count:,} of the custom_ids may be numbers, too; they were taken as the ids of rows."
