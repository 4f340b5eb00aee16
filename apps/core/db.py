"""Connections beside the ORM's, for what outlives a request: heartbeats, LISTEN, and the hot path."""

from typing import Any

import psycopg
from django.db import connection


def connect(*, autocommit: bool = True) -> psycopg.Connection[Any]:
    """A new connection to Django's database; the caller closes it. Raises `psycopg.OperationalError`."""
    params = connection.get_connection_params()
    for django_only in ("cursor_factory", "context"):
        params.pop(django_only, None)
    return psycopg.connect(**params, autocommit=autocommit, connect_timeout=5)
