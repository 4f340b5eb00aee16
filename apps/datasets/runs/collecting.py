"""The duty that takes results of batches over into answers and scores: while a batch runs, and wholly once it ended.

A chunk is one transaction: the rows, what depends on them, and how far we are. It holds the run's row, so that one
worker at a time works on a run; killed at any moment, the chunk is done or it is not. Results of several shards commit
out of order, so the mark (`RunBatch.seen`) may pass over some: at the end, those without an answer are looked for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce

from apps.batches.models import Batch
from apps.core import attempts, leases
from apps.datasets import items
from apps.datasets.models import Run, RunBatch
from apps.datasets.runs import answers, completions, judging
from apps.datasets.runs import services as runs
from apps.events import progress

CHUNK = 2_000  # results
CHUNK_BYTES = 64 * 1024**2  # of their bodies, as the database stores them
AT_ONCE = 8  # batches in one step: a worker has other duties

_FIELDS = (
    "r.id, r.line, r.custom_id::bigint, r.failed, coalesce(r.body, ''), r.error_code, r.error_message,"
    " r.input_tokens, r.output_tokens, r.latency_ms"
)

# By the index of (batch, line) whatever the planner believes of tables that grow under it: hence the + 0.
_NEWS = f"""
WITH found AS MATERIALIZED (
    SELECT id, pg_column_size(body) AS bytes FROM batches_result
    WHERE batch_id = %(batch)s AND id + 0 > %(seen)s ORDER BY id + 0 LIMIT %(chunk)s
), fitting AS MATERIALIZED (
    SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM found) AS summed
    WHERE coalesce(before, 0) < %(bytes)s
)
SELECT {_FIELDS} FROM batches_result r JOIN fitting f ON f.id = r.id ORDER BY r.id
"""  # noqa: S608 - constants only

_MISSED_ANSWERS = f"""
SELECT {_FIELDS} FROM batches_result r
WHERE r.batch_id = %(batch)s AND r.line > %(after)s AND NOT EXISTS (
    SELECT FROM datasets_item i JOIN datasets_answer a ON a.example_id = i.example_id
    WHERE i.run_id = %(run)s AND i.number = r.custom_id::bigint AND a.column_id = %(column)s AND a.sample = 0
        AND a.edit_of_id IS NULL AND (a.error = '' OR r.failed)
)
ORDER BY r.line LIMIT %(chunk)s
"""  # noqa: S608 - constants only

_MISSED_SCORES = f"""
SELECT {_FIELDS} FROM batches_result r
WHERE r.batch_id = %(batch)s AND r.line > %(after)s AND NOT EXISTS (
    SELECT FROM datasets_judgement j WHERE j.judge_id = %(judge)s AND j.answer_id = r.custom_id::bigint
)
ORDER BY r.line LIMIT %(chunk)s
"""  # noqa: S608 - constants only

_EXAMPLES = "SELECT number, example_id FROM datasets_item WHERE run_id = %s AND number = ANY(%s)"

log = logging.getLogger(__name__)


class Result(NamedTuple):
    """A row of `batches_result`."""

    id: int
    line: int
    number: int
    """The custom_id: an example's number, or an answer's id."""
    failed: bool
    body: str
    error_code: str
    error_message: str
    input_tokens: int
    output_tokens: int
    latency_ms: int


def collect_answers(keeper: leases.Keeper) -> bool:
    """Take over a chunk of every batch that has news, and settle those that have ended. Whether there was anything."""
    worked = [_try(keeper, pk, run) for pk, run in _with_news()]
    return any(worked)


def _try(keeper: leases.Keeper, pk: int, run: int) -> bool:
    worked: list[bool] = []
    attempts.work_on(keeper, f"answers:{pk}", lambda _: worked.append(_collect(pk, run)), lambda why: _give_up(pk, why))
    return any(worked)


def _with_news() -> list[tuple[int, int]]:
    """Batches with their runs."""
    ended = Coalesce(Sum(F("batch__shards__completed") + F("batch__shards__failed")), 0)
    found = (
        attempts.rested(RunBatch.objects.filter(settled=False), "answers:")
        .annotate(ended=ended, run=Coalesce("column__run_id", "judge__run_id"))
        .filter(Q(ended__gt=F("taken")) | ~Q(batch__status__in=Batch.OPEN))
    )
    return list(found.order_by("pk").values_list("pk", "run")[:AT_ONCE])


def _collect(pk: int, run_id: int) -> bool:
    with transaction.atomic():
        run = Run.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=run_id).first()
        batch = _unsettled(pk)
        if run is None or batch is None:
            return False
        ended = batch.batch.status not in Batch.OPEN  # read before its results: then no more of them come
        news = _read(_NEWS, batch=batch.batch_id, seen=batch.seen)
        if news:
            _take_over(batch, run, news)
            RunBatch.objects.filter(pk=pk).update(seen=news[-1].id, taken=F("taken") + len(news))
        elif ended:
            _settle(batch, run)
        progress.hint(runs.TOPIC, run.uid)
        if batch.judge is not None:
            progress.hint(judging.TOPIC, batch.judge.uid)
    return bool(news) or ended


def _unsettled(pk: int) -> RunBatch | None:
    return RunBatch.objects.select_related("batch", "column", "judge").filter(pk=pk, settled=False).first()


def _take_over(batch: RunBatch, run: Run, results: Sequence[Result]) -> None:
    if batch.column is not None:
        answers.put(batch.column, _answers_of(run, results))
    elif batch.judge is not None:
        judging.put(batch.judge, [_score(result) for result in results])


def _answers_of(run: Run, results: Sequence[Result]) -> list[answers.Row]:
    with connection.cursor() as cursor:
        cursor.execute(_EXAMPLES, (run.pk, [result.number for result in results]))
        examples = dict(cursor.fetchall())
    known = [(examples[result.number], result) for result in results if result.number in examples]
    return [row for example, result in known for row in _rows(example, result)]


def _rows(example: int, result: Result) -> list[answers.Row]:
    """An answer for each choice, or one that says why there is none. The prompt's tokens are the first choice's."""
    if result.failed:
        return [answers.failure(example, _error(result), result.latency_ms)]
    try:
        choices = completions.read(result.body, result.output_tokens)
    except completions.Unreadable as error:
        return [answers.failure(example, str(error), result.latency_ms)]
    return [
        answers.answer(
            example,
            sample,
            choice.said,
            input_tokens=0 if sample else result.input_tokens,
            output_tokens=choice.output_tokens,
            latency_ms=result.latency_ms,
        )
        for sample, choice in enumerate(choices)
    ]


def _score(result: Result) -> judging.Score:
    if result.failed:
        return judging.Score(result.number, 0, _error(result))
    return judging.Score(result.number, *judging.score_in(result.body, result.output_tokens))


def _error(result: Result) -> str:
    return completions.error_of(result.body, result.error_code, result.error_message)


def _settle(batch: RunBatch, run: Run) -> None:
    """Everything that ended is taken over, whatever never ended says why, and the counts are exact."""
    _join_by_hashing()
    if batch.column is not None:
        _reconcile(batch, run, _MISSED_ANSWERS, {"run": run.pk, "column": batch.column_id})
        answers.fail_missing(batch.column, batch.first, batch.last, _why_missing(batch.batch))
        items.refresh_columns([batch.column.pk])
    elif batch.judge is not None:
        _reconcile(batch, run, _MISSED_SCORES, {"judge": batch.judge_id})
    RunBatch.objects.filter(pk=batch.pk).update(settled=True)
    if batch.judge is not None:
        judging.settle(batch.judge, _why_missing(batch.batch))
    else:
        runs.tell_if_complete(run)


def _give_up(pk: int, why: str) -> None:
    """Its results cannot be taken over: whatever has no answer yet says why."""
    with transaction.atomic():
        batch = RunBatch.objects.select_related("column__run", "judge__run").filter(pk=pk).first()
        if batch is None or not RunBatch.objects.filter(pk=pk, settled=False).update(settled=True):
            return
        if batch.column is not None:
            answers.fail_missing(batch.column, batch.first, batch.last, why)
            runs.tell_if_complete(batch.column.run)
        elif batch.judge is not None:
            judging.settle(batch.judge, why)


def _reconcile(batch: RunBatch, run: Run, missed: str, owner: dict[str, int | None]) -> None:
    results = _read(missed, batch=batch.batch_id, after=0, **owner)
    while results:
        log.info("%s: %s results had committed late", batch.batch.uid, len(results))
        _take_over(batch, run, results)
        results = _read(missed, batch=batch.batch_id, after=results[-1].line, **owner)


def _join_by_hashing() -> None:
    """For the rest of the transaction: nested loops are quadratic where statistics lag behind a new batch."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off")


def _why_missing(batch: Batch) -> str:
    if batch.errors:
        return completions.clean(f"Its batch was refused: {batch.errors[0]['message']}", completions.ERROR_CHARACTERS)
    if batch.status == Batch.Status.CANCELLED:
        return "Its batch was cancelled before it was sent."
    return "Its batch has no result of it."


def _read(sql: str, **values: int | None) -> list[Result]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {**values, "chunk": CHUNK, "bytes": CHUNK_BYTES})
        return [Result(*row) for row in cursor.fetchall()]
