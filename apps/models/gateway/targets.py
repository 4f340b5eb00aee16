"""Which engines of this host answer for a name now."""

from dataclasses import dataclass

from django.utils import timezone

from apps.accounts.models import Project
from apps.models.gateway import refusals
from apps.models.gateway.cache import Cache
from apps.models.gateway.database import in_thread
from apps.models.models import Engine, Model
from apps.models.slots import Slot

FRESH_SECONDS = 1.0  # less than what a draining engine waits for latecomers
POLL_SECONDS = 0.25  # while no engine serves it
TARGETS = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    model: Model
    """With its base."""
    sockets: tuple[str, ...]

    @property
    def broken_for(self) -> float:
        """Seconds until an engine of it may be started; 0: now."""
        until = self.model.engine_model.broken_until
        return max((until - timezone.now()).total_seconds(), 0) if until else 0


class Targets:
    def __init__(self) -> None:
        self._known = Cache(in_thread(_load), seconds=_fresh_for, size=TARGETS)

    async def find(self, project: Project, name: str) -> Target:
        """Raises `ApiError` 404, `django.db.Error`."""
        key = (project.pk, name)
        return self._known.peek(key) or await self._known.get(key)

    def forget(self, project: Project, name: str) -> None:
        """An engine of it turned out to be gone."""
        self._known.forget((project.pk, name))


def _fresh_for(target: Target) -> float:
    return FRESH_SECONDS if target.sockets else POLL_SECONDS


def _load(key: tuple[int, str]) -> Target:
    project_id, name = key
    usable = Model.objects.usable_by(Project(pk=project_id)).select_related("base")
    model = None if "\0" in name else usable.filter(name=name).first()
    if model is None:
        raise refusals.unknown_model(name)
    here = Slot.here("").key
    engines = Engine.objects.filter(
        model=model.engine_model, state__in=Engine.SERVING, served__contains=name, device__slot__startswith=here
    ).exclude(socket="")
    return Target(model, tuple(engines.values_list("socket", flat=True)))
