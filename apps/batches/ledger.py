"""The runner's book in PostgreSQL: takes shards, reads their lines, writes outcomes. One connection, plain SQL.

Every write is fenced by the shard's lease, and results are only ever inserted: whatever is killed or doubled, a line
has one result, and the shard's counts change in the same transaction.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg

from apps.batches.client import Line, Outcome
from apps.core import attempts, leases
from apps.core.db import connect
from apps.core.faults import is_excused, plain
from apps.core.owner import owner

log = logging.getLogger(__name__)

CANDIDATES = 16  # shards looked at for a free one
SUSPECT_AFTER = 2  # attempts

RUNNABLE = "b.status = 'in_progress' AND b.paused_at IS NULL AND b.expires_at > now()"

NEXT_SHARDS = f"""
SELECT s.id, s.batch_id, b.uid, s.first_line, s.last_line, b.endpoint
FROM batches_shard s
JOIN batches_batch b ON b.id = s.batch_id
JOIN models_model m ON m.id = b.model_id
LEFT JOIN core_lease l ON l.key = 'shard:' || s.id
LEFT JOIN core_attempt a ON a.key = 'shard:' || s.id
WHERE {RUNNABLE} AND m.name = ANY(%s) AND s.lines > s.completed + s.failed
AND (l.key IS NULL OR l.expires_at < clock_timestamp())
AND (a.key IS NULL OR a.next_at <= clock_timestamp() AND (a.attempts < 2 OR %s))
ORDER BY b.priority DESC, b.expires_at, b.id, s.id LIMIT {CANDIDATES}
"""  # noqa: S608 - constants only

# NOT IN is hashed; NOT EXISTS would be a join, and a quadratic one wherever statistics lag behind a new batch.
UNANSWERED = """
SELECT line, custom_id, body FROM batches_request
WHERE batch_id = %(batch)s AND line BETWEEN %(first)s AND %(last)s AND line NOT IN
(SELECT line FROM batches_result WHERE batch_id = %(batch)s AND line BETWEEN %(first)s AND %(last)s)
ORDER BY line
"""

GIVE_UP = """
WITH unanswered AS (
    SELECT line, custom_id FROM batches_request
    WHERE batch_id = %(batch)s AND line BETWEEN %(first)s AND %(last)s AND line NOT IN
    (SELECT line FROM batches_result WHERE batch_id = %(batch)s AND line BETWEEN %(first)s AND %(last)s)
), failed AS (
    INSERT INTO batches_result (batch_id, line, custom_id, failed, error_code, error_message, request_id,
        attempts, latency_ms, input_tokens, cached_tokens, output_tokens, reasoning_tokens)
    SELECT %(batch)s, line, custom_id, true, %(code)s, %(message)s, '', 0, 0, 0, 0, 0, 0 FROM unanswered
    ON CONFLICT (batch_id, line) DO NOTHING RETURNING line
)
UPDATE batches_shard SET failed = failed + (SELECT count(*) FROM failed) WHERE id = %(shard)s
"""

# Asked by a transaction after those that wrote the last results, whichever worker did: one of them sees them all.
RING_IF_ENDED = """
SELECT pg_notify('bell_control', '') WHERE EXISTS (
    SELECT FROM unnest(%s::bigint[]) AS batch(id)
    WHERE NOT EXISTS (SELECT FROM batches_shard s WHERE s.batch_id = batch.id AND s.lines > s.completed + s.failed)
)
"""

COLUMNS = {
    "line": "int", "custom_id": "text", "failed": "bool", "status_code": "int", "body": "text", "error_code": "text",
    "error_message": "text", "request_id": "text", "attempts": "int", "latency_ms": "int",
    "input_tokens": "int", "cached_tokens": "int", "output_tokens": "int", "reasoning_tokens": "int",
}  # fmt: skip

# Binary arrays: six times faster than text ones. 0 and '' stand for null, since an array of nulls has no type.
RECORD = f"""
WITH fresh AS (
    INSERT INTO batches_result (batch_id, {", ".join(COLUMNS)})
    SELECT %(batch)s, line, custom_id, failed, nullif(status_code, 0), nullif(body, ''), error_code, error_message,
           request_id, attempts, latency_ms, input_tokens, cached_tokens, output_tokens, reasoning_tokens
    FROM unnest({", ".join(f"%({name})b::{kind}[]" for name, kind in COLUMNS.items())}) AS u({", ".join(COLUMNS)})
    WHERE EXISTS (SELECT FROM batches_shard WHERE id = %(shard)s)
    ON CONFLICT (batch_id, line) DO NOTHING
    RETURNING failed, input_tokens, cached_tokens, output_tokens, reasoning_tokens
), sums AS (
    SELECT count(*) FILTER (WHERE NOT failed) AS completed, count(*) FILTER (WHERE failed) AS failed,
           coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(cached_tokens), 0) AS cached_tokens,
           coalesce(sum(output_tokens), 0) AS output_tokens, coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens
    FROM fresh
)
UPDATE batches_shard s SET
    completed = s.completed + sums.completed, failed = s.failed + sums.failed,
    input_tokens = s.input_tokens + sums.input_tokens, cached_tokens = s.cached_tokens + sums.cached_tokens,
    output_tokens = s.output_tokens + sums.output_tokens,
    reasoning_tokens = s.reasoning_tokens + sums.reasoning_tokens
FROM sums WHERE s.id = %(shard)s RETURNING s.lines - s.completed - s.failed
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that is ours, and what is left of it to send."""

    id: int
    batch: int
    batch_uid: str
    held: leases.Held
    begun: attempts.Begun
    lines: list[Line]

    @property
    def suspect(self) -> bool:
        """Workers failed with it before: it is worked on alone, so that it takes none along."""
        return self.begun.number > SUSPECT_AFTER


class Ledger:
    """Not safe for threads: give it one of its own. Every method raises `psycopg.Error` while the database is away."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._tried: set[int] = set()  # shards on which an earlier attempt failed, and this one has written nothing yet

    def take_shard(self, models: Collection[str], *, alone: bool = True) -> Shard | None:
        """Lease the next shard for one of these models, in order of priority and deadline; None when there is none.

        `alone`: no other shard is held, so that one with which workers failed may be tried. One that was tried often
        enough ends here: its lines fail.
        """
        with self._transaction() as cursor:
            cursor.execute(NEXT_SHARDS, (list(models), alone))
            for shard_id, batch, uid, first, last, endpoint in cursor.fetchall():
                key = f"shard:{shard_id}"
                held = leases.claim(cursor, key, owner())
                if held is None:
                    continue
                begun = attempts.begin(cursor, key)
                where = {"shard": shard_id, "batch": batch, "first": first, "last": last}
                if begun is None or begun.exhausted:
                    leases.release(cursor, held)
                    if begun is not None:
                        _give_up(cursor, begun, where)
                    continue
                if begun.number > 1:
                    self._tried.add(shard_id)
                cursor.execute(UNANSWERED, where)
                lines = [Line(shard_id, batch, number, name, endpoint, body) for number, name, body in cursor]
                return Shard(shard_id, batch, uid, held, begun, lines)
        return None

    def record(self, outcomes: Iterable[Outcome], held: dict[int, leases.Held]) -> dict[int, int]:
        """Write outcomes durably. Returns the lines left per shard; a shard that is ours no more is missing there."""
        left: dict[int, int] = {}
        by_shard = sorted(outcomes, key=attrgetter("line.shard"))
        with self._transaction() as cursor:
            ours = leases.fence_all(cursor, {held[outcome.line.shard] for outcome in by_shard})
            for shard_id, group in groupby(by_shard, key=attrgetter("line.shard")):
                if held[shard_id] not in ours:
                    log.warning("Shard %s was taken over or ended: our answers are fenced", shard_id)
                    continue
                cursor.execute(RECORD, _parameters(shard_id, list(group)))
                for (lines,) in cursor.fetchall():  # no row: somebody deleted the batch
                    left[shard_id] = lines
            self._count_from_here(cursor, left)
        return left

    def release(self, shards: Iterable[Shard], error: BaseException | None = None) -> None:
        """Give them back, and wake a control worker where that ends their batch. `error` is what ended the work on
        them, where it failed."""
        shards = list(shards)
        failed = error is not None and not is_excused(error)
        for shard in shards if not failed else ():
            attempts.owe(shard.begun)
        with self._transaction() as cursor:
            attempts.pay(cursor)
            for shard in shards:
                if error is not None and failed:
                    attempts.rest(cursor, shard.begun, plain(error))
                leases.release(cursor, shard.held)
            cursor.execute(RING_IF_ENDED, ([shard.batch for shard in shards],))

    def runnable(self, batches: Sequence[int]) -> set[int]:
        """Those of the batches that were neither cancelled, paused nor ended in the meantime."""
        with self._transaction() as cursor:
            cursor.execute(f"SELECT b.id FROM batches_batch b WHERE b.id = ANY(%s) AND {RUNNABLE}", (list(batches),))  # noqa: S608
            return {row[0] for row in cursor.fetchall()}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _count_from_here(self, cursor: psycopg.Cursor[Any], written: Collection[int]) -> None:
        """Where something was written, what was tried before without success counts no more."""
        if tried := self._tried.intersection(written):
            keys = [f"shard:{shard}" for shard in tried]
            cursor.execute("UPDATE core_attempt SET attempts = 1, deaths = 0 WHERE key = ANY(%s)", (keys,))
            self._tried -= tried

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor whose transaction commits at the end; a broken connection is made anew the next time."""
        if self._connection is None or self._connection.closed:
            self._connection = connect()
            self._connection.prepare_threshold = None  # no kept plans: the tables grow under them
        with self._connection.transaction(), self._connection.cursor() as cursor:
            yield cursor


def _give_up(cursor: psycopg.Cursor[Any], begun: attempts.Begun, where: dict[str, int]) -> None:
    """All lines of the shard that have no result fail with how the last attempt ended."""
    message = attempts.sentence(begun.error or attempts.DIED)
    log.error("%s is given up: %s", begun.key, message)
    cursor.execute(GIVE_UP, {**where, "code": attempts.CODE, "message": message})
    attempts.forget(cursor, begun)
    cursor.execute("SELECT pg_notify('bell_control', '')")


def _parameters(shard_id: int, outcomes: list[Outcome]) -> dict[str, Any]:
    """One array per column."""
    return {
        "shard": shard_id,
        "batch": outcomes[0].line.batch,
        "line": [outcome.line.number for outcome in outcomes],
        "custom_id": [outcome.line.custom_id for outcome in outcomes],
        "status_code": [outcome.status_code or 0 for outcome in outcomes],
        **{
            name: [getattr(outcome, name) for outcome in outcomes]
            for name in COLUMNS
            if name not in ("line", "custom_id", "status_code")
        },
    }
