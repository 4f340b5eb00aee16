"""The duty that takes installs on.

Each goes on in a thread of its own, under a lease, so that a download of hours keeps no other duty waiting.
"""

import contextlib
import logging
import threading
import time

import psycopg
from django.db import Error, close_old_connections, connection

from apps.core import leases
from apps.core.owner import owner
from apps.models.errand import Stopped
from apps.models.installation import Installation
from apps.models.models import Install

AT_ONCE = 2  # installs that one control worker works on
LOOK_AT = 20  # installs that others may hold already
REST_SECONDS = 15.0  # after the database failed us

Status = Install.Status
STEPS = (Status.QUEUED, Status.RESOLVING, Status.DOWNLOADING, Status.CHECKING)

log = logging.getLogger(__name__)
_at_work: dict[int, threading.Thread] = {}  # install -> who works on it in this process
_resting: dict[int, float] = {}  # installs that we could not go on with -> monotonic time of their next turn here


def install_next(keeper: leases.Keeper) -> bool:
    """Take on one install that nobody works on. Whether there was one."""
    for pk in [pk for pk, thread in _at_work.items() if not thread.is_alive()]:
        del _at_work[pk]
    if len(_at_work) >= AT_ONCE:
        return False
    now = time.monotonic()
    busy = [*_at_work, *(pk for pk, until in _resting.items() if until > now)]
    waiting = Install.objects.filter(status__in=STEPS).exclude(pk__in=busy).order_by("pk")
    for pk in waiting.values_list("pk", flat=True)[:LOOK_AT]:
        with connection.cursor() as cursor:
            held = leases.claim(cursor, f"install:{pk}", owner())
        if held:
            keeper.add(held)
            _at_work[pk] = threading.Thread(target=_work, args=[pk, held, keeper], name=f"install-{pk}", daemon=True)
            _at_work[pk].start()
            return True
    return False


def _work(pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
    """The thread."""
    try:
        close_old_connections()
        if install := Install.objects.select_related("project", "base").filter(pk=pk, status__in=STEPS).first():
            Installation(install, held, keeper).run()
    except (Stopped, leases.Fenced):
        log.info("Install %s goes on elsewhere, or later", pk)
    except (Error, psycopg.Error) as error:
        log.warning("Install %s waits, the database is away: %s", pk, error)
        _resting[pk] = time.monotonic() + REST_SECONDS
    finally:
        keeper.remove(held)
        with contextlib.suppress(Error, psycopg.Error), connection.cursor() as cursor:
            leases.release(cursor, held)
        connection.close()
