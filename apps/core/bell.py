"""The doorbell: wakes a worker that waits. It carries nothing and may be lost; workers also look every POLL seconds."""

import time
from typing import Any

import psycopg
from django.db import connection

from apps.core.db import connect

POLL = 5.0  # seconds


def ring(name: str) -> None:
    """Wake who waits for `name`, once the surrounding transaction has committed (and not if it rolls back)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", (f"bell_{name}",))


class Bell:
    """One waiting worker's ear: a connection that listens, made again when PostgreSQL was away."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, timeout: float) -> bool:
        """Whether it rang within `timeout` seconds. Returns early, with True, when the ear was deaf before."""
        try:
            if self._connection is None:
                self._connection = connect()
                self._connection.execute(f'LISTEN "bell_{self._name}"')
                return True
            return any(self._connection.notifies(timeout=timeout, stop_after=1))
        except psycopg.Error:
            self.close()
            time.sleep(min(timeout, 1.0))
            return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
