"""Answers people's requests with an engine's answers, unchanged."""

from apps.models.gateway.callers import Callers
from apps.models.gateway.crowd import Crowds
from apps.models.gateway.engines import Engines
from apps.models.gateway.exchange import Exchange, Request, Shared
from apps.models.gateway.keys import Keys
from apps.models.gateway.meter import Meter
from apps.models.gateway.targets import Targets


class Gateway:
    """An event loop's.

    Not in charge of HTTP towards the client (`gateway.asgi`), nor of which engine runs (the GPU workers' plan).
    """

    def __init__(self) -> None:
        self._shared = Shared(Meter(), Targets(), Crowds(), Engines())
        self.keys = Keys()
        self.callers = Callers(self.keys, self._shared.meter.recorded)

    def exchange(self, request: Request) -> Exchange:
        """The request's way to an engine and back."""
        return Exchange(self._shared, request)

    async def close(self) -> None:
        """Record what was counted, and let go of engines."""
        await self._shared.crowds.close()
        await self._shared.engines.close()
        await self._shared.meter.close()
