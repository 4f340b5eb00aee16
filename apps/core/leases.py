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
    """The process group recorded by the owner before us, which may still run."""


def claim(cursor: Cursor, key: str, owner: str) -> Held | None:
    """Take the lease if nobody holds it."""
    cursor.execute(
        "INSERT INTO core_lease AS l (key, owner, epoch, expires_at, process_group)"
        " VALUES (%s, %s, nextval('core_lease_epoch'), clock_timestamp() + make_interval(secs => %s), '')"
        " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,"
        " expires_at = excluded.expires_at WHERE l.expires_at < clock_timestamp()"
        " RETURNING epoch, process_group",
        (key, owner, TTL),
    )
    row = cursor.fetchone()
    return Held(key, row[0], row[1]) if row else None


def renew(cursor: Cursor, held: Iterable[Held]) -> set[Held]:
    """Extend the leases; returns those that are still ours."""
    wanted = list(held)
    cursor.execute(
        "UPDATE core_lease l SET expires_at = clock_timestamp() + make_interval(secs => %s)"
        " FROM unnest(%s::text[], %s::bigint[]) AS h(key, epoch)"
        " WHERE l.key = h.key AND l.epoch = h.epoch RETURNING l.key",
        (TTL, [h.key for h in wanted], [h.epoch for h in wanted]),
    )
    kept = {row[0] for row in cursor.fetchall()}
    return {h for h in wanted if h.key in kept}


def release(cursor: Cursor, held: Held) -> None:
    """Give the lease back at once, so that the next owner need not wait for it to expire."""
    cursor.execute("DELETE FROM core_lease WHERE key = %s AND epoch = %s", (held.key, held.epoch))


def revoke(cursor: Cursor, keys: Iterable[str]) -> None:
    """Take leases away from whoever holds them: their next fenced write is refused."""
    cursor.execute("DELETE FROM core_lease WHERE key = ANY(%s)", (list(keys),))


def fence(cursor: Cursor, held: Held) -> None:
    """Hold the lease's row until the transaction ends. Raises `Fenced` when it is ours no more."""
    cursor.execute("SELECT 1 FROM core_lease WHERE key = %s AND epoch = %s FOR SHARE", (held.key, held.epoch))
    if cursor.fetchone() is None:
        raise Fenced(held.key)


def record_process_group(cursor: Cursor, held: Held, group: str) -> None:
    """Note what would have to be reaped if we were killed. Call it before, not after, the process does work."""
    fence(cursor, held)
    cursor.execute("UPDATE core_lease SET process_group = %s WHERE key = %s", (group, held.key))


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
