"""Counts what keys ask for, and holds them to their limits."""

import asyncio
import logging
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import psycopg
from django.db import Error

from apps.core.api.errors import ApiError
from apps.models import usage
from apps.models.gateway.callers import Caller
from apps.models.gateway.database import in_thread
from apps.models.tokens import Tokens

FLUSH_SECONDS = 1.0
BUSY_SECONDS = 1  # to wait when a key has as many requests under way as it may

log = logging.getLogger(__name__)


class Meter:
    """What is counted goes to the usage rows every second, in one statement.

    While the database is away it is added up here, a number for each key, model and day. Requests under way are
    counted for each web process, tokens over all of them, a few seconds late; what is under way may exceed a budget.
    """

    def __init__(self) -> None:
        self._open: dict[usage.Account, usage.Count] = {}
        self._inside: Counter[int] = Counter()
        self._day = _now().date()
        self._counted: Counter[int] = Counter()  # tokens of a key today, by this process
        self._recorded: Counter[int] = Counter()  # those of them that are in the rows
        self._flusher: asyncio.Task[None] | None = None

    def recorded(self, key_id: int, day: date) -> int:
        """The tokens of the key on the day that this process has added to the rows."""
        return self._recorded[key_id] if day == self._day else 0

    def enter(self, caller: Caller) -> None:
        """A request begins. Raises `ApiError` 429 when the key is at a limit of its own."""
        if caller.key_id is not None:
            self._check(caller, caller.key_id)
            self._inside[caller.key_id] += 1

    def leave(self, caller: Caller) -> None:
        """The request that entered has ended."""
        if caller.key_id is not None:
            self._inside[caller.key_id] -= 1
            if not self._inside[caller.key_id]:
                del self._inside[caller.key_id]

    def count(self, caller: Caller, model: str, tokens: Tokens, *, failed: bool) -> None:
        """One request that has ended."""
        day = _now().date()
        count = self._open.setdefault(usage.Account(day, caller.project.pk, caller.key_id, model), usage.Count())
        count.requests += 1
        count.failed += failed
        count.input += tokens.input
        count.cached += tokens.cached
        count.output += tokens.output
        if caller.tokens_per_day is not None and caller.key_id is not None:
            self._turn_to(day)
            self._counted[caller.key_id] += tokens.input + tokens.output
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_until_empty())

    async def flush(self) -> bool:
        """Add what was counted to the rows. False when the database did not take it; nothing is lost."""
        counts, self._open = self._open, {}
        if not counts:
            return True
        try:
            await in_thread(usage.record)(counts)
        except (Error, psycopg.Error) as error:
            log.warning("Usage could not be recorded, trying again: %s", error)
            self._put_back(counts)
            return False
        for account, count in counts.items():
            if account.key_id is not None and account.key_id in self._counted and account.day == self._day:
                self._recorded[account.key_id] += count.input + count.output
        return True

    async def close(self) -> None:
        """Record what is left, as well as it goes."""
        if self._flusher:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        await self.flush()

    async def _flush_until_empty(self) -> None:
        while self._open:
            await asyncio.sleep(FLUSH_SECONDS)
            await asyncio.shield(self.flush())

    def _put_back(self, counts: dict[usage.Account, usage.Count]) -> None:
        for account, count in counts.items():
            here = self._open.setdefault(account, usage.Count())
            for field in usage.Count.__slots__:
                setattr(here, field, getattr(here, field) + getattr(count, field))

    def _check(self, caller: Caller, key_id: int) -> None:
        limit = caller.max_concurrent
        if limit is not None and self._inside[key_id] >= limit:
            message = f"This API key has {limit} requests under way, which is its limit. Try again when one has ended."
            raise _limit(message, "rate_limit_exceeded", BUSY_SECONDS)
        budget = caller.tokens_per_day
        if budget is not None and caller.spent + self._counted[key_id] - caller.counted >= budget:
            message = f"This API key has used its {budget:,} tokens of today. The next day begins at midnight, UTC."
            raise _limit(message, "insufficient_quota", _until_midnight(), {"x-should-retry": "false"})

    def _turn_to(self, day: date) -> None:
        if day != self._day:
            self._day = day
            self._counted.clear()
            self._recorded.clear()


def _limit(message: str, code: str, seconds: int, more: dict[str, str] | None = None) -> ApiError:
    return ApiError(429, message, code, headers={"Retry-After": str(seconds), **(more or {})})


def _until_midnight() -> int:
    """Seconds, at least one."""
    now = _now()
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((midnight - now).total_seconds()) + 1


def _now() -> datetime:
    return datetime.now(UTC)
