"""Keeps an engine's window full with lines, across the ends of shards and batches, and every outcome durable.

In charge of: what is in flight, when to take the next shard, when to write, what to drop, and which line to blame for a
dead engine. Not in charge of: which model runs and when (`apps.models.worker`), how a request is tried again
(`client`), what a row looks like (`ledger`).

One event loop sends; the ledger has a thread of its own, so that writing never keeps the engine waiting.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import psycopg
import uvloop
from asgiref.sync import sync_to_async
from django.db import Error, close_old_connections

from apps.batches.bisection import Bisection
from apps.batches.client import Client, EngineGone, Line, Outcome
from apps.batches.ledger import Ledger, Shard
from apps.core.leases import Held, Keeper
from apps.models.jobs import EngineHost

FLUSH_SECONDS = 0.05  # the longest that an outcome waits to be written
REWORK = 1.25  # times the window: what a crash may cost, lines in flight and outcomes not written yet
LOOK_SECONDS = 1.0  # between two looks at cancelled and paused batches
IDLE_SECONDS = 0.1  # between two looks for a shard while the window is not full

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)  # the last: it is read-only

T = TypeVar("T")
log = logging.getLogger(__name__)


class Runner:
    """One turn on one engine: lines for its model and the adapters that it serves."""

    def __init__(
        self,
        *,
        host: EngineHost,
        keeper: Keeper,
        window: int,
        client: Callable[[EngineHost], Client],
        on_progress: Callable[[set[str]], Awaitable[None]],
    ) -> None:
        """`window` lines are kept in flight; `on_progress` is told the batches whose counts have changed."""
        self._host, self._keeper, self._window = host, keeper, window
        self._new_client, self._on_progress = client, on_progress
        self._ledger, self._thread = Ledger(), ThreadPoolExecutor(1, "ledger")
        self._shards: dict[int, Shard] = {}  # ours, with lines that are not written yet
        self._queue: deque[Line] = deque()
        self._flight: dict[asyncio.Task[Outcome], Line] = {}
        self._outcomes: list[Outcome] = []
        self._suspects: Bisection[Line] = Bisection()
        self._error: Exception | None = None  # which ended the turn
        self._victims: list[Line] = []  # with the engine when it died

    def run(self) -> None:
        """Send lines until none is left or the host says no. Nothing of ours is leased afterwards."""
        try:
            while uvloop.run(self._serve_one_engine()) and self._restart():
                self._accuse()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._thread.submit(self._release_all)
            self._thread.shutdown()

    def _restart(self) -> bool:
        """Suspects were expected to kill it."""
        return self._host.restart(explained=self._suspects.group() is not None)

    async def _serve_one_engine(self) -> bool:
        """Work with the engine as long as it lives. True: it died, and there is more to send."""
        self._going, self._changed, self._due = True, asyncio.Event(), asyncio.Event()
        async with self._new_client(self._host) as self._client:
            try:
                async with asyncio.TaskGroup() as group:  # one that fails ends all of them
                    background = [group.create_task(job()) for job in (self._write_outcomes, self._watch)]
                    await self._send_everything()
                    await self._land()
                    for task in background:
                        task.cancel()
            finally:
                await self._abandon()
            await self._flush()
        return bool(self._victims) and self._going

    async def _send_everything(self) -> None:
        while self._going and not self._victims:
            if not self._suspects.group() and len(self._queue) < self._window and not self._works_alone():
                await self._take_shard()
            self._pump()
            if not self._shards:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):  # wait_for may swallow a cancellation
                    await self._changed.wait()

    def _works_alone(self) -> bool:
        return any(shard.suspect for shard in self._shards.values())

    async def _take_shard(self) -> None:
        take = partial(self._ledger.take_shard, self._host.engine.served, alone=not self._shards)
        shard = await self._in_thread(take)
        if shard is None:
            return
        self._keeper.add(shard.held)
        self._shards[shard.id] = shard
        self._queue.extend(shard.lines)

    def _pump(self) -> None:
        """Fill the window: with the suspects alone while there are any."""
        if self._victims or not self._going:
            return
        if group := self._suspects.group():
            self._try_suspects(group)
            return
        while self._queue and self._has_room():
            line = self._queue.popleft()
            if self._keeper.holds(self._shards[line.shard].held):
                self._send(line)
            else:
                self._queue.appendleft(line)
                return

    def _has_room(self) -> bool:
        at_risk = len(self._flight) + len(self._outcomes)
        return len(self._flight) < self._window and at_risk < REWORK * self._window

    def _try_suspects(self, group: list[Line]) -> None:
        if self._flight:
            return
        waiting = set(group) & set(self._queue)
        if not all(self._keeper.holds(self._shards[line.shard].held) for line in waiting):
            return
        if not waiting:
            self._suspects.passed()
            self._changed.set()
            return
        self._queue = deque(line for line in self._queue if line not in waiting)
        for line in group:
            if line in waiting:
                self._send(line)

    def _send(self, line: Line) -> None:
        task = asyncio.create_task(self._client.answer(line))
        self._flight[task] = line
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[Outcome]) -> None:
        line = self._flight.pop(task)
        if not task.cancelled():
            match task.exception():
                case None:
                    self._outcomes.append(task.result())
                case EngineGone():
                    self._victims.append(line)
                case error:
                    log.error("Line %s of batch %s", line.number, line.batch, exc_info=error)
                    self._outcomes.append(_errored(line, "internal_error", f"The server failed: {error!r}"))
        self._pump()
        if len(self._outcomes) >= (REWORK - 1) * self._window:
            self._due.set()
        if self._victims or not self._flight or len(self._queue) == self._window:
            self._changed.set()

    def _accuse(self) -> None:
        """A new engine is up: decide what to send first, or whose fault it was."""
        guilty = self._suspects.died(self._victims)
        for line in self._victims:
            if line is guilty:
                log.warning("Line %s of batch %s kills the engine", line.number, line.batch)
                self._host.explain()
                message = "This request made the engine crash twice, alone with it; it was not tried again."
                self._outcomes.append(_errored(line, "engine_crash", message))
            elif line.shard in self._shards:
                self._queue.appendleft(line)
        self._victims = []

    async def _land(self) -> None:
        """Let what is in flight end, as far as the host has patience."""
        began = time.monotonic()
        while self._flight:
            if not self._victims and time.monotonic() - began > self._host.patience():
                return
            await asyncio.wait(self._flight, timeout=0.2)

    async def _abandon(self) -> None:
        """Give up on what is still in flight."""
        if not self._flight:
            return
        self._going = False
        for task in self._flight:
            task.cancel()
        await asyncio.gather(*self._flight, return_exceptions=True)

    async def _write_outcomes(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):  # wait_for may swallow a cancellation
                    await self._due.wait()
            self._due.clear()
            await self._flush()
            self._pump()

    async def _flush(self) -> None:
        """Write all outcomes; while the database is away they stay in memory."""
        outcomes = list(self._outcomes)
        if not outcomes:
            return
        held = {shard.id: shard.held for shard in self._shards.values()}
        ours = [outcome for outcome in outcomes if outcome.line.shard in held]
        left = await self._record(ours, held)
        del self._outcomes[: len(outcomes)]
        touched = [self._shards[key] for key in {outcome.line.shard for outcome in ours} if key in self._shards]
        self._let_go(shard for shard in touched if not left.get(shard.id))
        await self._on_progress({shard.batch_uid for shard in touched})

    async def _record(self, outcomes: list[Outcome], held: dict[int, Held]) -> dict[int, int]:
        """The lines left per shard. An answer that cannot be stored costs its own line and no other."""
        try:
            return await self._in_thread(partial(self._ledger.record, outcomes, held))
        except psycopg.DataError as error:
            if len(outcomes) > 1:
                return {shard: left for each in outcomes for shard, left in (await self._record([each], held)).items()}
            line = outcomes[0].line
            log.warning("The answer to line %s of batch %s cannot be stored: %s", line.number, line.batch, error)
            refused = [_errored(line, "engine_error", "The engine's answer holds what cannot be stored.")]
            return await self._in_thread(partial(self._ledger.record, refused, held))

    async def _watch(self) -> None:
        """Every second: may we go on, and which batches were cancelled, paused, expired, or taken over?"""
        while True:
            self._going = await sync_to_async(self._may_go_on)()
            shards = list(self._shards.values())
            wanted = await self._in_thread(partial(self._ledger.runnable, [shard.batch for shard in shards]))
            self._let_go(shard for shard in shards if shard.batch not in wanted or self._keeper.lost(shard.held))
            await asyncio.sleep(LOOK_SECONDS)

    def _may_go_on(self) -> bool:
        close_old_connections()
        try:
            return self._host.go_on()
        except Error:
            return True  # the database is away: nobody can have decided otherwise

    def _let_go(self, shards: Iterable[Shard]) -> None:
        """Work on these shards no more: done, or not ours to do. The engine drops requests whose connections close."""
        gone = {shard.id: shard for shard in shards if self._shards.get(shard.id) is shard}
        if not gone:
            return
        self._queue = deque(line for line in self._queue if line.shard not in gone)
        for task, line in self._flight.items():
            if line.shard in gone:
                task.cancel()
        for shard in gone.values():
            self._keeper.remove(shard.held)
            del self._shards[shard.id]
            self._thread.submit(self._ledger.release, [shard])
        self._changed.set()

    def _release_all(self) -> None:
        try:
            self._ledger.release(self._shards.values(), self._error)
        except psycopg.Error as error:
            log.warning("Leases of shards will expire by themselves: %s", error)
        for shard in self._shards.values():
            self._keeper.remove(shard.held)
        self._ledger.close()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Run it in the ledger's thread, again and again while the database is away, unless we have to stop."""
        while True:
            try:
                return await asyncio.wrap_future(self._thread.submit(call))
            except AWAY as error:
                if self._host.must_stop():
                    raise
                log.warning("The database is away, trying again: %s", str(error).strip())
                await asyncio.sleep(1.0)


def _errored(line: Line, code: str, message: str) -> Outcome:
    return Outcome(line=line, failed=True, error_code=code, error_message=message)
