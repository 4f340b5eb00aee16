"""Leases: one owner at a time, whatever crashes, with a fencing token on every write.

A lease lives TTL seconds on the database's clock and is renewed every HEARTBEAT seconds from a thread and a
connection of its own. An owner that could not renew for GIVE_UP seconds stops by itself, before anyone else may start.
Epochs come from one sequence and are never used twice, so a row may be deleted when its lease is given back.

A lease or a timeout alone is not safety: writers call `fence` inside the transaction that writes, so that a late owner
(paused, partitioned) is refused by the database.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from apps.core.db import connect
from apps.core.owner import is_dead

TTL = 15  # seconds
HEARTBEAT = 5  # seconds
GIVE_UP = 10  # seconds

log = logging.getLogger(__name__)


class Cursor(Protocol):
    """What Django's and psycopg's cursors share."""

    def execute(self, query: Any, params: Any = None) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Any: ...


class Fenced(Exception):
    """The lease was taken over or revoked: roll back and stop."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that we hold, or held: `epoch` tells."""

    key: str
    epoch: int
    left_behind: str = ""
    """The process groups recorded by the owner before us, one a line, which may still run."""


# Whoever locks several rows does so in the order of their keys, or two would wait for each other.
_OURS = (
    "SELECT l.key FROM core_lease l JOIN unnest(%s::text[], %s::bigint[]) AS h(key, epoch)"
    " ON l.key = h.key AND l.epoch = h.epoch ORDER BY l.key"
)


def claim(cursor: Cursor, key: str, owner: str) -> Held | None:
    """Take the lease if nobody else holds it.

    What this very process holds it takes anew: it let go of it while the database could not be told.
    """
    cursor.execute(
        "INSERT INTO core_lease AS l (key, owner, epoch, expires_at, process_groups)"
        " VALUES (%s, %s, nextval('core_lease_epoch'), clock_timestamp() + make_interval(secs => %s), '')"
        " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,"
        " expires_at = excluded.expires_at WHERE l.expires_at < clock_timestamp() OR l.owner = excluded.owner"
        " RETURNING epoch, process_groups",
        (key, owner, TTL),
    )
    row = cursor.fetchone()
    return Held(key, row[0], row[1]) if row else None


def renew(cursor: Cursor, held: Iterable[Held]) -> set[Held]:
    """Extend the leases; returns those that are still ours."""
    wanted = list(held)
    cursor.execute(
        f"WITH ours AS ({_OURS} FOR NO KEY UPDATE OF l)"  # noqa: S608 - a constant
        " UPDATE core_lease l SET expires_at = clock_timestamp() + make_interval(secs => %s)"
        " FROM ours WHERE l.key = ours.key RETURNING l.key",
        (*_arrays(wanted), TTL),
    )
    return _among(wanted, cursor)


def release(cursor: Cursor, held: Held) -> None:
    """Give the lease back at once, so that the next owner need not wait for it to expire."""
    cursor.execute("DELETE FROM core_lease WHERE key = %s AND epoch = %s", (held.key, held.epoch))


def revoke(cursor: Cursor, keys: Iterable[str]) -> None:
    """Take leases away from whoever holds them: their next fenced write is refused."""
    cursor.execute(
        "WITH them AS (SELECT key FROM core_lease WHERE key = ANY(%s) ORDER BY key FOR UPDATE)"
        " DELETE FROM core_lease l USING them WHERE l.key = them.key",
        (list(keys),),
    )


def free_dead(cursor: Cursor) -> None:
    """End the leases of processes of this machine that are dead: nobody need wait for those to expire.

    The row stays, for the process groups that its next owner has to reap.
    """
    cursor.execute("SELECT DISTINCT owner FROM core_lease WHERE expires_at > clock_timestamp()")
    if dead := [owner for (owner,) in cursor.fetchall() if is_dead(owner)]:
        cursor.execute(
            "UPDATE core_lease SET epoch = nextval('core_lease_epoch'), expires_at = '-infinity'"
            " WHERE key IN (SELECT key FROM core_lease WHERE owner = ANY(%s) ORDER BY key FOR UPDATE)",
            (dead,),
        )


def fence(cursor: Cursor, held: Held) -> None:
    """Hold the lease's row until the transaction ends. Raises `Fenced` when it is ours no more."""
    if not fence_all(cursor, [held]):
        raise Fenced(held.key)


def fence_all(cursor: Cursor, held: Iterable[Held]) -> set[Held]:
    """Hold the rows of those leases that are still ours until the transaction ends, and return these."""
    wanted = list(held)
    cursor.execute(f"{_OURS} FOR SHARE OF l", _arrays(wanted))
    return _among(wanted, cursor)


def record_process_groups(cursor: Cursor, held: Held, groups: Iterable[str]) -> None:
    """Note all that would have to be reaped if we were killed. Call it before, not after, a process does work."""
    fence(cursor, held)
    cursor.execute("UPDATE core_lease SET process_groups = %s WHERE key = %s", ("\n".join(groups), held.key))


def _arrays(held: list[Held]) -> tuple[list[str], list[int]]:
    return [h.key for h in held], [h.epoch for h in held]


def _among(held: list[Held], cursor: Cursor) -> set[Held]:
    keys = {row[0] for row in cursor.fetchall()}
    return {h for h in held if h.key in keys}


class Keeper:
    """Renews leases from its own thread and connection, and knows which of them are lost.

    It does not stop anybody's work: owners ask before every step they take. Between `holds` and `lost` lies "not
    known": the database could not be asked for a while. Owners then send nothing new and wait.
    """

    def __init__(self) -> None:
        self._held: dict[Held, float] = {}  # lease -> monotonic time of the last renewal
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    def add(self, held: Held) -> None:
        with self._lock:
            self._held[held] = time.monotonic()

    def remove(self, held: Held) -> None:
        with self._lock:
            self._held.pop(held, None)

    def holds(self, held: Held) -> bool:
        """Whether the lease was renewed recently enough to go on."""
        with self._lock:
            renewed = self._held.get(held)
        return renewed is not None and time.monotonic() - renewed < GIVE_UP

    def lost(self, held: Held) -> bool:
        """Whether somebody else has it now, for certain."""
        with self._lock:
            return held not in self._held

    def close(self) -> None:
        self._stop.set()
        self._thread.join(HEARTBEAT)

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stop.wait(HEARTBEAT if connection else 0.5):
            try:
                connection = connection or connect()
                self._beat(connection)
            except psycopg.Error as error:
                log.warning("Leases could not be renewed, trying again: %s", error)
                if connection:
                    connection.close()
                connection = None
        if connection:
            connection.close()

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        with self._lock:
            wanted = set(self._held)
        if not wanted:
            return
        started = time.monotonic()
        with connection.cursor() as cursor:
            kept = renew(cursor, wanted)
        with self._lock:
            for held in wanted & self._held.keys():
                if held in kept:
                    self._held[held] = started
                else:
                    log.warning("Lease %s was taken over", held.key)
                    del self._held[held]
