"""Work of minutes and hours beside a worker's duties: each row goes on in a thread of its own, under a lease.

How often a row is tried is counted: see `attempts`.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import Error, close_old_connections, connection
from django.db.models import QuerySet

from apps.core import attempts, leases
from apps.core.errors import Stopped

LOOK_AT = 20  # rows that others may hold already

Work = Callable[[int, leases.Held, leases.Keeper], None]
GiveUp = Callable[[int, str], object]

log = logging.getLogger(__name__)


class Crew:
    """Takes rows on, one at a time each, never more than `at_once` in this process."""

    def __init__(self, name: str, work: Work, give_up: GiveUp, *, at_once: int = 2) -> None:
        """`work` gets the row's primary key and may raise `Stopped`; its lease's key is "NAME:PK".

        `give_up` ends a row as failed whose work failed too often, with a sentence, unless it has ended.
        """
        self._name, self._work, self._give_up, self._at_once = name, work, give_up, at_once
        self._at_work: dict[int, threading.Thread] = {}

    def take_next(self, keeper: leases.Keeper, waiting: QuerySet[Any]) -> bool:
        """Take on the first of these rows that nobody works on. Whether there was one."""
        self._at_work = {pk: thread for pk, thread in self._at_work.items() if thread.is_alive()}
        if len(self._at_work) >= self._at_once:
            return False
        free = attempts.rested(waiting.exclude(pk__in=list(self._at_work)), f"{self._name}:")
        for pk in free.order_by("pk").values_list("pk", flat=True)[:LOOK_AT]:
            if taken := attempts.take(keeper, f"{self._name}:{pk}"):
                name, arguments = f"{self._name}-{pk}", (pk, *taken, keeper)
                thread = threading.Thread(target=self._run, args=arguments, name=name, daemon=True)
                self._at_work[pk] = thread
                thread.start()
                return True
        return False

    def wait(self, seconds: float) -> bool:
        """Until nobody works in this process any more; what rested may be taken on again. False: some still do."""
        deadline = time.monotonic() + seconds
        for thread in self._at_work.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        attempts.wake(f"{self._name}:")
        return not any(thread.is_alive() for thread in self._at_work.values())

    def _run(self, pk: int, held: leases.Held, begun: attempts.Begun, keeper: leases.Keeper) -> None:
        try:
            close_old_connections()
            attempts.attempt(begun, lambda: self._work(pk, held, keeper), lambda why: self._give_up(pk, why))
        except (Stopped, leases.Fenced):
            log.info("%s %s goes on elsewhere, or later", self._name, pk)
        except (Error, psycopg.Error) as error:
            log.warning("%s %s waits, the database is away: %s", self._name, pk, error)
        except OSError as error:
            log.warning("%s %s waits for room: %s", self._name, pk, error)
        finally:
            attempts.let_go(keeper, held)
            connection.close()
