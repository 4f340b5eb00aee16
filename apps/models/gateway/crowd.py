"""People's wishes for engines, as the GPU workers see them: one row for each model, told once a second."""

import asyncio
import contextlib
import logging

import psycopg
from django.db import Error

from apps.core.owner import owner
from apps.models import demand
from apps.models.gateway.database import in_thread
from apps.models.models import Model

TELL_SECONDS = 1.0

log = logging.getLogger(__name__)


class _Crowd:
    """The requests for one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.present = 0
        self.waiting = 0
        self.came = True
        """Whether one came, or was answered, since it was last told."""
        self.told_waiting = False


class Place:
    """One request's. It waits while `waiting` is set."""

    def __init__(self, crowd: _Crowd, changed: asyncio.Event) -> None:
        self._crowd, self._changed, self._waits = crowd, changed, False

    @property
    def waiting(self) -> bool:
        return self._waits

    @waiting.setter
    def waiting(self, waits: bool) -> None:
        if waits == self._waits:
            return
        self._waits = waits
        self._crowd.waiting += 1 if waits else -1
        if self._crowd.waiting == int(waits):  # the first came, or the last went
            self._changed.set()

    def serve(self) -> None:
        """It is answered."""
        self._crowd.came = True
        self.waiting = False

    def leave(self) -> None:
        """It has ended."""
        self.waiting = False
        self._crowd.present -= 1


class Crowds:
    """Who waits for which model, and who is being answered."""

    def __init__(self) -> None:
        self._crowds: dict[int, _Crowd] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self._teller: asyncio.Task[None] | None = None

    def join(self, model: Model) -> Place:
        """A request begins: its place, to be left when its answer has ended."""
        crowd = self._crowds.setdefault(model.pk, _Crowd(model))
        crowd.present += 1
        crowd.came = True
        if self._teller is None or self._teller.done():
            self._teller = asyncio.create_task(self._tell_until_empty())
        return Place(crowd, self._changed)

    async def close(self) -> None:
        """Nobody waits here any more. What is just being told is told first: a thread is not to be stopped."""
        self._closed = True
        self._changed.set()
        if self._teller:
            await asyncio.wait([self._teller])
        for crowd in self._crowds.values():
            await self._tell(crowd, present=False)

    async def _tell_until_empty(self) -> None:
        while self._crowds and not self._closed:
            self._changed.clear()
            for pk, crowd in list(self._crowds.items()):
                present = crowd.came or crowd.present > 0
                crowd.came = False
                await self._tell(crowd, present=present)
                if not (present or crowd.came):
                    del self._crowds[pk]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._changed.wait()

    async def _tell(self, crowd: _Crowd, *, present: bool) -> None:
        try:
            if present:
                crowd.told_waiting = crowd.waiting > 0
                await in_thread(demand.ask_for)(model=crowd.model, owner=owner(), waiting=crowd.waiting)
            elif crowd.told_waiting:
                await in_thread(demand.withdraw)(model=crowd.model, owner=owner())
        except (Error, psycopg.Error) as error:
            log.warning("The GPU workers could not be told of who waits, trying again: %s", error)
