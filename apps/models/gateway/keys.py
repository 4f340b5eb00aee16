"""Whether keys are live: one query for all who ask at the time. A thousand wrong keys cost little more than one."""

import asyncio
import time

from apps.accounts.authentication import KeyState, refused_key, states_of_keys
from apps.models.gateway.cache import Cache
from apps.models.gateway.database import in_thread

LIVE_SECONDS = 4.0  # for which a live key counts as known; a revoked one is refused when these are over
REFUSED_SECONDS = 2.0  # … and a key that is not live
KEYS = 10_000  # of either, that are remembered
GATHER_SECONDS = 0.025  # from the start of one query to that of the next
AT_ONCE = 1_000  # digests of one query


class Keys:
    """An event loop's. Live keys and others are remembered apart: no flood of wrong ones makes a live one unknown."""

    def __init__(self) -> None:
        self._live = Cache(self._ask, seconds=lambda _: LIVE_SECONDS, size=KEYS)
        self._refused: dict[str, tuple[KeyState, float]] = {}  # with the moment until which it counts
        self._waiting: dict[str, asyncio.Future[KeyState]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def check(self, digest: str) -> None:
        """Raises `ApiError` 401 for a key that is not live, and `django.db.Error`."""
        if self._live.peek(digest) is None:
            state, until = self._refused.get(digest) or (KeyState.LIVE, 0.0)
            if time.monotonic() < until:
                raise refused_key(state)
            await self._live.get(digest)

    async def _ask(self, digest: str) -> KeyState:
        asked = self._waiting[digest] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer())
        state = await asked
        if state is not KeyState.LIVE:
            self._refuse(digest, state)
            raise refused_key(state)
        return state

    def _refuse(self, digest: str, state: KeyState) -> None:
        self._refused.pop(digest, None)
        self._refused[digest] = (state, time.monotonic() + REFUSED_SECONDS)
        if len(self._refused) > KEYS:
            del self._refused[next(iter(self._refused))]

    async def _answer(self) -> None:
        """Until nobody waits: who comes while a query runs, or shortly after one began, shares the next."""
        while self._waiting:
            next_at = time.monotonic() + GATHER_SECONDS
            asked = {digest: self._waiting.pop(digest) for digest in list(self._waiting)[:AT_ONCE]}
            try:
                states = await in_thread(states_of_keys)(list(asked))
            except Exception as error:  # theirs who asked
                for future in asked.values():
                    future.set_exception(error)
            else:
                for digest, future in asked.items():
                    future.set_result(states[digest])
            await asyncio.sleep(next_at - time.monotonic())
        self._asking = None
