"""Kinds of GPU work. Apps above register theirs, so that the plan knows every job and no app above."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from django.db import InterfaceError, OperationalError

from apps.core.leases import Keeper
from apps.core.process import ProcessGroup
from apps.models.engines.engine import Engine
from apps.models.slots import Slot

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that wants a model's engine, or the device without any."""

    kind: str
    model_id: int | None
    """The engine's model: for an adapter, its base. None: the bare device, every engine stopped."""
    waiting: int
    """Requests left."""
    priority: int
    """Higher first."""
    deadline: datetime
    since: datetime
    """When it began to wait."""
    urgent: bool = False
    """People wait for it now: before any batch."""
    seconds: float | None = None
    """How long what is left takes, where the kind knows better than requests times the learned seconds of one."""


class EngineHost(Protocol):
    """Lends a running engine to a job, which may ask for a new one when it died under the job's hands."""

    @property
    def engine(self) -> Engine:
        """The one that runs."""

    @property
    def slot(self) -> Slot:
        """Whose device is lent."""

    def record(self, group: ProcessGroup) -> None:
        """Note what a job started on the bare device: reaped, should we be killed. Call it before it does work."""

    def restart(self, *, explained: bool = False) -> bool:
        """Replace the dead engine; blocks while it loads. False: it does not start, or we have to stop.

        `explained`: the death was to be expected, and tells nothing about the model.
        """

    def explain(self) -> None:
        """One request was found to be the cause of this turn's deaths."""

    def must_stop(self) -> bool:
        """Whether the slot is lost or the worker was asked to stop: seconds are left. Asks no database."""

    def go_on(self) -> bool:
        """Whether the job may send more: the slot is ours, nobody asked to stop, no other model's turn has come."""

    def patience(self) -> float:
        """Seconds from then on for what is in flight; the rest is given up, and done again. Asks no database."""


class Kind(Protocol):
    def backlog(self) -> list[Job]:
        """Everything that waits for an engine now."""

    def run(self, host: EngineHost, keeper: Keeper, window: int) -> None:
        """Work on what the engine serves, `window` requests in flight, until none is left or the host says no."""


_kinds: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    _kinds[name] = kind


def kind(name: str) -> Kind:
    return _kinds[name]


def backlog() -> list[Job]:
    """Of all kinds. One that cannot say keeps no other from its turn."""
    return [job for name in _kinds for job in _backlog_of(name)]


def _backlog_of(name: str) -> list[Job]:
    try:
        return _kinds[name].backlog()
    except (OperationalError, InterfaceError):
        raise  # the database is away: no kind could say
    except Exception:
        log.exception("The backlog of %s cannot be read, trying again", name)
        return []
