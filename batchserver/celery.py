"""The Celery application: messages are doorbells, see `apps.core.drain`."""

import ctypes
import os
import signal
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_ready, worker_shutting_down

from apps.core.drain import STOP
from apps.models.slots import Slot
from batchserver.garbage import collect_less

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchserver.settings")

app = Celery("batchserver")
app.config_from_object("batchserver.celery_config")
app.autodiscover_tasks()


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Celery sets up logging of its own unless somebody answers this signal: settings.LOGGING has done it."""


@worker_ready.connect
def _begin_at_once(**_: Any) -> None:
    """Ring our own bell; beat would do it in five seconds."""
    if devices := os.environ.get("GPU_SLOT"):
        app.send_task("gpu.work", args=[devices], queue=Slot.here(devices).queue, expires=60)
    else:
        app.send_task("core.wake", expires=60)


@worker_shutting_down.connect
def _stop_drains(**_: Any) -> None:
    STOP.set()


@worker_process_init.connect
def _die_with_the_worker(**_: Any) -> None:
    """A pool process must not outlive a killed worker: its slot would look alive for ever."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@worker_process_init.connect
def _collect_less(**_: Any) -> None:
    collect_less()
