"""The duty that takes installs on."""

from apps.core import leases
from apps.core.crew import Crew
from apps.models.installs import boot
from apps.models.installs.installation import Installation
from apps.models.models import Install

Status = Install.Status
STEPS = (Status.QUEUED, Status.RESOLVING, Status.DOWNLOADING, Status.CHECKING)


def install_next(keeper: leases.Keeper) -> bool:
    """Take on one install that nobody works on. Whether there was one."""
    return crew.take_next(keeper, Install.objects.filter(status__in=STEPS))


def _work(pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
    if install := Install.objects.select_related("project", "base").filter(pk=pk, status__in=STEPS).first():
        Installation(install, held, keeper).run()


def _give_up(pk: int, why: str) -> None:
    if install := Install.objects.filter(pk=pk, status__in=STEPS).first():
        boot.fail(install, why)


crew = Crew("install", _work, _give_up)
