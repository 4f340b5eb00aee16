"""The loop of every worker: own a slot, work while there is work, wait for the bell, until asked to stop.

A Celery message only starts it. All else is a row in PostgreSQL, looked for every few seconds, so that a lost, doubled
or forged message changes nothing.
"""

import logging
import os
import socket
from collections.abc import Callable
from multiprocessing import Event
from typing import Protocol

import psycopg
from django.db import Error, close_old_connections, connection

from apps.core import leases
from apps.core.bell import POLL, Bell

log = logging.getLogger(__name__)

STOP = Event()
"""Set in the worker's parent process when it shuts down; pool processes inherit it."""


class Worker(Protocol):
    def step(self) -> bool:
        """Do the next piece of work; False when there was none."""

    def close(self) -> None:
        """Give back what is held: engines, leases."""


def owner() -> str:
    """Who we are, for people who read lease rows."""
    return f"{socket.gethostname()}:{os.getpid()}"


def drain(slot: str, bell: str, start: Callable[[leases.Held, leases.Keeper], Worker]) -> None:
    """Own `slot` and work until STOP, or until the slot is lost. Returns when another process goes on owning it."""
    held = _claim(slot)
    if held is None:
        return
    keeper = leases.Keeper()
    keeper.add(held)
    ear = Bell(bell)
    worker = start(held, keeper)
    log.info("%s is ours", slot)
    try:
        while not STOP.is_set() and not keeper.lost(held):
            if not _step(worker):
                _wait(ear)
    finally:
        worker.close()
        ear.close()
        keeper.close()
        _release(held)
        log.info("%s is free", slot)


def _claim(slot: str) -> leases.Held | None:
    """The slot's lease; a killed owner's takes TTL seconds to expire."""
    for _ in range(leases.TTL + 1):
        with connection.cursor() as cursor:
            held = leases.claim(cursor, slot, owner())
        if held or STOP.wait(1.0):
            return held
    return None


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
    except Error as error:
        log.warning("Lease %s will expire by itself: %s", held.key, error)
