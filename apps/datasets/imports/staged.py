"""Jobs that write as they go what nobody sees before they are done; a killed or cancelled one leaves nothing of it."""

import logging
from collections.abc import Callable
from typing import Generic

from django.db import transaction

from apps.core import leases
from apps.core.errors import DomainError
from apps.datasets.jobs import AnyJob, Cancelled, Kind, Work
from apps.events import progress

log = logging.getLogger(__name__)


class Staged(Kind[AnyJob], Generic[AnyJob]):
    """A kind whose leftovers `discard` deletes: before a job is begun (again), and before it ends without success."""

    def __init__(
        self,
        topic: str,
        model: type[AnyJob],
        perform: Callable[[Work[AnyJob]], None],
        discard: Callable[[AnyJob], None],
    ) -> None:
        super().__init__(topic, model, self._perform_or_discard)
        self._perform_staged, self._discard = perform, discard

    def _work(self, pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
        job = self.model._default_manager.filter(pk=pk, status__in=self.model.GOING).first()
        if job is not None:
            self._clear(Work(job, held, keeper, self.topic))
        super()._work(pk, held, keeper)

    def _perform_or_discard(self, work: Work[AnyJob]) -> None:
        try:
            self._perform_staged(work)
        except (Cancelled, DomainError):
            self._say(work, "It stops; what it wrote is being deleted.")
            self._clear(work)
            raise

    def _give_up(self, pk: int, why: str) -> None:
        """What is left is seen by nobody; the next of its kind deletes it, should that fail here."""
        if job := self.model._default_manager.filter(pk=pk, status__in=self.model.GOING).first():
            try:
                with transaction.atomic():
                    self._discard(job)
            except Exception:
                log.exception("%s left something behind", job)
        super()._give_up(pk, why)

    def _say(self, work: Work[AnyJob], message: str) -> None:
        self.model._default_manager.filter(pk=work.job.pk, status__in=self.model.GOING).update(message=message)
        progress.hint(self.topic, work.job.uid)

    def _clear(self, work: Work[AnyJob]) -> None:
        with transaction.atomic():
            self._discard(work.job)
            work.fence()
