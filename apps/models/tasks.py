import logging
from functools import partial

from celery import current_app, shared_task
from django.conf import settings

from apps.core.drain import drain
from apps.core.tasks import unowned
from apps.models.models import Device
from apps.models.requests import catalog
from apps.models.slots import Slot
from apps.models.worker import GpuWorker

log = logging.getLogger(__name__)


@shared_task(name="gpu.work")
def work(devices: str) -> None:
    """Own a GPU slot of this host until the worker stops."""
    slot = Slot.here(devices)
    try:
        catalog.read_engine(settings.ENGINE_PYTHON)
    except catalog.NotReadable as error:
        log.warning("What the engine accepts in requests could not be read; older tables apply: %s", error)
    drain(slot.key, "gpu", partial(GpuWorker, slot))


@shared_task(name="models.wake")
def wake() -> None:
    """Ring for GPU slots that nobody owns, on every host that ever showed one."""
    slots = tuple(Device.objects.values_list("slot", flat=True))
    for slot in map(Slot.parse, unowned(slots)):
        current_app.send_task("gpu.work", args=[slot.devices], queue=slot.queue, expires=5)
