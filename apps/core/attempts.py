"""Attempts: whatever is claimed is tried a bounded number of times, and then ends as failed.

An attempt is counted in the database when work on a row begins, under the key of the row's lease, so that one which
kills its process counts as well. It is forgotten when the work returns, and taken back when it ended through no fault
of the row: the worker was asked to stop, the lease was lost, the database was away, the disk was full. Otherwise the
row rests on the database's clock, longer each time, and after WORK_ATTEMPTS the app that owns it ends it, with a
sentence.

A row whose worker died twice in a row is tried while nothing else is in this process, for as long as that may last: it
is not to take along those beside it.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db import Error, connection
from django.db.models import CharField, Exists, Model, OuterRef, QuerySet, Value
from django.db.models.functions import Cast, Concat, Now

from apps.core import leases
from apps.core.errors import Stopped
from apps.core.faults import is_excused, lacks_room, plain
from apps.core.models import Attempt
from apps.core.owner import owner

CODE = "server_error"
"""The error code of what ended because of this, where it has one."""
BACK_OFF = (15, 60, 240, 900)  # seconds before the second try, the third, …
PAUSE = 15.0  # seconds, where there was no room
ALONE_SECONDS = 600.0  # for which a row that killed its workers keeps others in this process from beginning
KEEP_DAYS = 30  # the count of a row that is gone
DIED = "the process that worked on it died, most likely for lack of memory"

GiveUp = Callable[[str], object]
"""Ends the row as failed with this sentence, unless it has ended. When it raises it is called again, later."""
Rows = TypeVar("Rows", bound=QuerySet[Any])
Row = TypeVar("Row", bound=Model)
Result = TypeVar("Result")


_BEGIN = """
INSERT INTO core_attempt AS a (key, attempts, began, deaths, error, next_at, at)
VALUES (%(key)s, 1, true, 0, '', clock_timestamp(), clock_timestamp())
ON CONFLICT (key) DO UPDATE SET attempts = a.attempts + 1, began = true, at = clock_timestamp(),
    deaths = CASE WHEN a.began THEN a.deaths + 1 ELSE 0 END, error = CASE WHEN a.began THEN '' ELSE a.error END,
    next_at = clock_timestamp() + make_interval(secs => (ARRAY[0, %(back_off)s])[least(a.attempts, %(last)s) + 1])
RETURNING attempts, deaths, error
""".replace("%(back_off)s", ", ".join(map(str, BACK_OFF)))

log = logging.getLogger(__name__)

_lock, _paying = threading.Lock(), threading.Lock()
_here: dict[str, float] = {}  # what was begun in this process and has not ended -> until when it wants to be alone
_owed: list[tuple["Begun", float]] = []  # attempts to take back, of which the database could not be told yet


@dataclass(frozen=True, slots=True)
class Begun:
    """One attempt."""

    key: str
    number: int
    """From 1."""
    error: str
    """How the one before ended."""

    @property
    def exhausted(self) -> bool:
        """There were enough before it: the row is to end."""
        return self.number > settings.WORK_ATTEMPTS


def rested(rows: Rows, prefix: str) -> Rows:
    """Without those that rest until their next attempt; their keys are the prefix and the primary key."""
    key = Concat(Value(prefix), Cast("pk", CharField()))
    resting = Attempt.objects.filter(key=OuterRef("attempt_key"), next_at__gt=Now())
    return rows.alias(attempt_key=key).exclude(Exists(resting))


def take(keeper: leases.Keeper, key: str) -> tuple[leases.Held, Begun] | None:
    """The lease, and the attempt that begins with it. None: somebody works on it, or it is not its moment."""
    with connection.cursor() as cursor:
        held = leases.claim(cursor, key, owner())
        if held is None:
            return None
        begun = begin(cursor, key)
        if begun is None:
            leases.release(cursor, held)
            return None
    keeper.add(held)
    return held, begun


def let_go(keeper: leases.Keeper, held: leases.Held) -> None:
    keeper.remove(held)
    with contextlib.suppress(Error, psycopg.Error), connection.cursor() as cursor:
        leases.release(cursor, held)


def work_on(keeper: leases.Keeper, key: str, work: Callable[[leases.Held], None], give_up: GiveUp) -> bool:
    """Claim it and do the work, in this thread. False: somebody else does, or it is not its moment.

    True as well when it raised `Stopped` or `Fenced`. Raises what else is no fault of the row, see `attempt`.
    """
    taken = take(keeper, key)
    if taken is None:
        return False
    held, begun = taken
    try:
        attempt(begun, lambda: work(held), give_up)
    except (Stopped, leases.Fenced):
        log.info("%s goes on elsewhere, or later", key)
    finally:
        let_go(keeper, held)
    return True


def work_through(
    rows: Callable[[], QuerySet[Row]],
    prefix: str,
    keeper: leases.Keeper,
    work: Callable[[Row, leases.Held], None],
    give_up: Callable[[int, str], object],
    *,
    go_on: Callable[[], bool],
) -> None:
    """Work on the first row, again and again; until there is none, the first is another's, or `go_on()` is false."""
    while go_on():
        row = rested(rows(), prefix).first()
        if row is None:
            return
        if not work_on(keeper, f"{prefix}{row.pk}", partial(work, row), partial(give_up, row.pk)):
            return


def attempt(begun: Begun, work: Callable[[], None], give_up: GiveUp) -> None:
    """Do the work and say how it ended. Raises only what is no fault of the row: it was taken back then."""
    if begun.exhausted:
        _end(begun, give_up, begun.error or DIED)
        return
    try:
        work()
    except BaseException as error:
        if not isinstance(error, Exception) or is_excused(error):
            take_back(begun, PAUSE if lacks_room(error) else 0.0)
            raise
        log.exception("%s failed, attempt %d of %d", begun.key, begun.number, settings.WORK_ATTEMPTS)
        if begun.number >= settings.WORK_ATTEMPTS:
            _end(begun, give_up, plain(error))
        else:
            _rest_here(begun, plain(error))
    else:
        settle(begun)


def each(
    rows: QuerySet[Row], prefix: str, work: Callable[[Row], Result], give_up: Callable[[Any, str], object]
) -> list[Result]:
    """What `work` gives for each row. For what is looked at again and again without a lease: a row with which it raises
    keeps no other from its turn, rests, and ends by `give_up` with its primary key and a sentence.
    """
    return [found for row in rested(rows, prefix) for found in _look(row, prefix, work, give_up)]


def _look(row: Row, prefix: str, work: Callable[[Row], Result], give_up: Callable[[Any, str], object]) -> list[Result]:
    try:
        return [work(row)]
    except Exception as error:
        if is_excused(error):
            raise
        log.exception("%s%s failed", prefix, row.pk)
        with connection.cursor() as cursor:
            begun = begin(cursor, f"{prefix}{row.pk}")
        if begun is not None and begun.number >= settings.WORK_ATTEMPTS:
            _end(begun, lambda why: give_up(row.pk, why), plain(error))
        elif begun is not None:
            _rest_here(begun, plain(error))
        return []


def begin(cursor: leases.Cursor, key: str) -> Begun | None:
    """Count an attempt. None: not now, since something else would die with it."""
    pay(cursor)
    cursor.execute("SELECT deaths FROM core_attempt WHERE key = %s AND began", (key,))
    row = cursor.fetchone()
    suspect = row is not None and row[0] >= 1  # this one would be its second death
    now = time.monotonic()
    with _lock:
        if any(until > now for until in _here.values()) or (suspect and _here):
            return None
        _here[key] = now + ALONE_SECONDS if suspect else 0.0
    try:
        cursor.execute(_BEGIN, {"key": key, "last": len(BACK_OFF)})
        number, _, error = cursor.fetchone()
    except BaseException:
        _forget_here(key)
        raise
    return Begun(key, number, error)


def settle(begun: Begun) -> None:
    """It is done: nothing is remembered."""
    _forget_here(begun.key)
    with contextlib.suppress(Error, psycopg.Error), connection.cursor() as cursor:
        forget(cursor, begun)


def forget(cursor: leases.Cursor, begun: Begun) -> None:
    _forget_here(begun.key)
    cursor.execute("DELETE FROM core_attempt WHERE key = %s AND attempts = %s", (begun.key, begun.number))


def take_back(begun: Begun, pause: float = 0.0) -> None:
    """It does not count, and is tried again after so many seconds. Told later where the database is away."""
    owe(begun, pause)
    with contextlib.suppress(Error, psycopg.Error), connection.cursor() as cursor:
        pay(cursor)


def owe(begun: Begun, pause: float = 0.0) -> None:
    """Have it taken back by the next `pay`."""
    _forget_here(begun.key)
    _owed.append((begun, pause))


def sentence(why: str) -> str:
    return (
        f"The server could not do this: it was tried {settings.WORK_ATTEMPTS} times, and at last {why}. "
        "The server's log has the details."
    )


def wake(prefix: str) -> None:
    """Those that rest may be tried at once."""
    Attempt.objects.filter(key__startswith=prefix).update(next_at=Now())


def forget_old(_keeper: leases.Keeper) -> bool:
    """A control duty: counts of rows that are gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM core_attempt WHERE at < clock_timestamp() - make_interval(days => %s)",
            (KEEP_DAYS,),
        )
    return False


def _end(begun: Begun, give_up: GiveUp, why: str) -> None:
    """Should even that fail, it is tried again after the longest rest."""
    log.error("%s is given up after %d attempts: %s", begun.key, settings.WORK_ATTEMPTS, why)
    try:
        give_up(sentence(why))
    except Exception as error:
        if is_excused(error):
            take_back(begun, PAUSE if lacks_room(error) else 0.0)
            raise
        log.exception("%s could not be ended", begun.key)
        _rest_here(begun, why)
    else:
        settle(begun)


def rest(cursor: leases.Cursor, begun: Begun, why: str) -> None:
    """It counts, and its row rests."""
    _forget_here(begun.key)
    seconds = BACK_OFF[min(begun.number, len(BACK_OFF)) - 1]
    cursor.execute(
        "UPDATE core_attempt SET began = false, deaths = 0, error = %s,"
        " next_at = clock_timestamp() + make_interval(secs => %s) WHERE key = %s AND attempts = %s",
        (why, seconds, begun.key, begun.number),
    )


def _rest_here(begun: Begun, why: str) -> None:
    _forget_here(begun.key)
    with connection.cursor() as cursor:
        rest(cursor, begun, why)


def pay(cursor: leases.Cursor) -> None:
    """Take back what is owed. Where another attempt has begun meanwhile, that one goes on, with a lower number."""
    while _owed and _paying.acquire(blocking=False):
        try:
            _pay_first(cursor)
        finally:
            _paying.release()


def _pay_first(cursor: leases.Cursor) -> None:
    for begun, pause in _owed[:1]:
        cursor.execute(
            "UPDATE core_attempt SET attempts = greatest(attempts - 1, 0),"
            " began = began AND attempts > %(number)s, deaths = CASE WHEN attempts > %(number)s THEN deaths ELSE 0 END,"
            " next_at = CASE WHEN attempts > %(number)s THEN next_at"
            " ELSE clock_timestamp() + make_interval(secs => %(pause)s) END WHERE key = %(key)s",
            {"number": begun.number, "pause": pause, "key": begun.key},
        )
        cursor.execute(
            "DELETE FROM core_attempt WHERE key = %s AND attempts = 0 AND NOT began AND next_at <= clock_timestamp()",
            (begun.key,),
        )
        _owed.pop(0)


def _forget_here(key: str) -> None:
    with _lock:
        _here.pop(key, None)
