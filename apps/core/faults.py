"""What an exception says about the row that was worked on: whether it is its fault, and how to put it."""

import errno
import re

import psycopg
from django.db import Error, InterfaceError, OperationalError

from apps.core.errors import Stopped
from apps.core.leases import Fenced

# Classes of SQLSTATE by which PostgreSQL says that it cannot work now: connections, resources, operators, other
# transactions, a standby. A statement that took too long and a text that is too long (class 54) are the row's own.
AWAY = ("08", "53", "55", "57", "40", "25006")
TOOK_TOO_LONG = "57014"
CONNECTION_LOST = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
NO_RESOURCES = "53"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

PLAIN: tuple[tuple[type[BaseException], str], ...] = (
    (UnicodeError, "it holds broken characters"),
    (FileNotFoundError, "a file that it needs is gone"),
    (IsADirectoryError, "there is a folder where a file should be"),
    (NotADirectoryError, "there is a file where a folder should be"),
    (PermissionError, "the server may not open a file that it needs"),
    (MemoryError, "it needs more memory than the server has"),
    (RecursionError, "it is nested too deeply"),
)


def is_excused(error: BaseException) -> bool:
    """Whether it says nothing about the row: somebody wanted us to stop, the database is away, the disk is full."""
    error = _first(error)
    if isinstance(error, Stopped | Fenced):
        return True
    if isinstance(error, OSError):
        return error.errno in NO_SPACE
    if not isinstance(error, Error | psycopg.Error):
        return False
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    if state is None:
        return isinstance(error, CONNECTION_LOST)
    return str(state).startswith(AWAY) and state != TOOK_TOO_LONG


def lacks_room(error: BaseException) -> bool:
    """Whether trying again at once would fail again: a disk is full, here or below the database."""
    error = _first(error)
    if isinstance(error, OSError):
        return error.errno in NO_SPACE
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    return str(state or "").startswith(NO_RESOURCES)


def plain(error: BaseException) -> str:
    """How it ended, for who may not see the server's paths and values: those are in its log."""
    error = _first(error)
    if isinstance(error, Error | psycopg.Error | ValueError) and re.search("NUL|0x00|u0000", str(error)):
        return "it holds a NUL character, which cannot be stored"
    for kind, words in PLAIN:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError) and error.strerror:
        return f"a file could not be used ({error.strerror})"
    return f"the server made a mistake ({type(error).__name__})"


def _first(error: BaseException) -> BaseException:
    """Of a group, the one that ended it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
