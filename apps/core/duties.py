"""What a control worker does. Each app registers its own duties; each duty finds its work in PostgreSQL."""

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError

from apps.core.leases import Held, Keeper

Duty = Callable[[Keeper], bool]
"""Do one bounded piece of work and tell whether there was any. Leases of its own go to the keeper."""

log = logging.getLogger(__name__)
_duties: dict[str, Duty] = {}


def register(name: str, duty: Duty) -> None:
    _duties[name] = duty


class ControlWorker:
    """Goes round all duties; one that fails does not keep the others from their turn."""

    def __init__(self, _slot: Held, keeper: Keeper) -> None:
        self._keeper = keeper

    def step(self) -> bool:
        worked = [self._try(name, duty) for name, duty in _duties.items()]
        return any(worked)

    def close(self) -> None:
        """Nothing is held between steps."""

    def _try(self, name: str, duty: Duty) -> bool:
        try:
            return duty(self._keeper)
        except (OperationalError, InterfaceError):
            raise  # the database is away: every duty would fail
        except Exception:
            log.exception("Duty %s failed, it is tried again", name)
            return False
