"""The loop of every worker: own a slot, work while there is work, wait for the bell, until asked to stop.

A Celery message only starts it. All else is a row in PostgreSQL, looked for every few seconds, so that a lost, doubled
or forged message changes nothing.
"""

import logging
import mmap
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Protocol

import psycopg
from django.db import Error, close_old_connections, connection

from apps.core import leases
from apps.core.bell import POLL, Bell
from apps.core.owner import owner

log = logging.getLogger(__name__)


class Flag:
    """Set once, seen by this process and by those it forks. No lock, so that none can be killed while holding it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._memory[0] = 1

    def is_set(self) -> bool:
        return self._memory[0] == 1


STOP = Flag()
"""Set in the worker's parent process when it shuts down; pool processes inherit it."""


class Worker(Protocol):
    def step(self) -> bool:
        """Do the next piece of work; False when there was none."""

    def close(self) -> None:
        """Give back what is held: engines, leases."""


def drain(slot: str, bell: str, start: Callable[[leases.Held, leases.Keeper], Worker]) -> None:
    """Own `slot` and work until STOP, or until the slot is lost. Returns when another process goes on owning it."""
    held = _claim(slot)
    if held is None:
        return
    log.info("%s is ours", slot)
    with ExitStack() as stack:
        stack.callback(_release, held)
        keeper = stack.enter_context(closing(leases.Keeper()))
        keeper.add(held)
        ear = stack.enter_context(closing(Bell(bell)))
        worker = stack.enter_context(closing(start(held, keeper)))
        while not STOP.is_set() and not keeper.lost(held):
            if not _step(worker):
                _wait(ear)


def _claim(slot: str) -> leases.Held | None:
    """The slot's lease. A killed owner's is free at once on its own machine; elsewhere beat rings when it expired."""
    with connection.cursor() as cursor:
        leases.free_dead(cursor)
        return leases.claim(cursor, slot, owner())


def _step(worker: Worker) -> bool:
    """One step. Whatever goes wrong costs this step alone: the rows still say what is owed."""
    try:
        close_old_connections()
        return worker.step()
    except (Error, psycopg.Error) as error:
        log.warning("The database is away, trying again: %s", error)
    except Exception:
        log.exception("A step failed, trying again")
    return False


def _wait(ear: Bell) -> None:
    """Wait POLL seconds or for the bell, looking at STOP in between."""
    for _ in range(int(POLL * 2)):
        if STOP.is_set() or ear.wait(0.5):
            return


def _release(held: leases.Held) -> None:
    try:
        with connection.cursor() as cursor:
            leases.release(cursor, held)
        log.info("%s is free", held.key)
    except Error as error:
        log.warning("Lease %s will expire by itself: %s", held.key, error)
