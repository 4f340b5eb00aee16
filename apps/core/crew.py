"""Work of minutes and hours beside a worker's duties: each row goes on in a thread of its own, under a lease."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import Error, close_old_connections, connection
from django.db.models import QuerySet

from apps.core import leases
from apps.core.errors import Stopped
from apps.core.owner import owner

LOOK_AT = 20  # rows that others may hold already
REST_SECONDS = 15.0  # after the database failed us, or the work did

log = logging.getLogger(__name__)


class Crew:
    """Takes rows on, one at a time each, never more than `at_once` in this process."""

    def __init__(self, name: str, work: Callable[[int, leases.Held, leases.Keeper], None], *, at_once: int = 2) -> None:
        """`work` gets the row's primary key and may raise `Stopped`; its lease's key is "NAME:PK"."""
        self._name, self._work, self._at_once = name, work, at_once
        self._at_work: dict[int, threading.Thread] = {}
        self._resting: dict[int, float] = {}  # on the monotonic clock: until when

    def take_next(self, keeper: leases.Keeper, waiting: QuerySet[Any]) -> bool:
        """Take on the first of these rows that nobody works on. Whether there was one."""
        self._at_work = {pk: thread for pk, thread in self._at_work.items() if thread.is_alive()}
        if len(self._at_work) >= self._at_once:
            return False
        now = time.monotonic()
        busy = [*self._at_work, *(pk for pk, until in self._resting.items() if until > now)]
        for pk in waiting.exclude(pk__in=busy).order_by("pk").values_list("pk", flat=True)[:LOOK_AT]:
            with connection.cursor() as cursor:
                held = leases.claim(cursor, f"{self._name}:{pk}", owner())
            if held:
                keeper.add(held)
                name = f"{self._name}-{pk}"
                thread = threading.Thread(target=self._run, args=[pk, held, keeper], name=name, daemon=True)
                self._at_work[pk] = thread
                thread.start()
                return True
        return False

    def wait(self, seconds: float) -> bool:
        """Until nobody works in this process any more; what rested may be taken on again. False: some still do."""
        deadline = time.monotonic() + seconds
        for thread in self._at_work.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._resting.clear()
        return not any(thread.is_alive() for thread in self._at_work.values())

    def _run(self, pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
        try:
            close_old_connections()
            self._work(pk, held, keeper)
        except (Stopped, leases.Fenced):
            log.info("%s %s goes on elsewhere, or later", self._name, pk)
        except (Error, psycopg.Error) as error:
            log.warning("%s %s waits, the database is away: %s", self._name, pk, error)
            self._resting[pk] = time.monotonic() + REST_SECONDS
        except Exception:
            log.exception("%s %s failed, it is tried again", self._name, pk)
            self._resting[pk] = time.monotonic() + REST_SECONDS
        finally:
            keeper.remove(held)
            with contextlib.suppress(Error, psycopg.Error), connection.cursor() as cursor:
                leases.release(cursor, held)
            connection.close()
