"""Sends one line to an engine until it has an outcome. It knows no database and no batch, only lines and answers."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from apps.core.ids import new_id
from apps.models.blanks import with_warning
from apps.models.dialect import translated
from apps.models.tokens import Tokens, tokens_of

BACK_OFF = (0.25, 1.0, 2.0, 4.0, 8.0)  # seconds before the next attempt
HEADERS = {"content-type": "application/json"}
RETRIED = frozenset({408, 409, 425, 429})  # and every 5xx
AFTER_PEOPLE = ',"priority":1}'  # vLLM takes the lowest first; an interactive request has 0


@dataclass(frozen=True, slots=True)
class Line:
    """A request that waits for an engine."""

    shard: int
    batch: int
    number: int
    custom_id: str
    url: str
    body: str
    """A JSON object that has members, without a priority."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a line ended: exactly one of `status_code` and `error_code` is set."""

    line: Line
    failed: bool
    status_code: int | None = None
    body: str = ""
    """The engine's answer, JSON on one line."""
    error_code: str = ""
    error_message: str = ""
    request_id: str = ""
    attempts: int = 1
    latency_ms: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class EngineGone(Exception):
    """The engine died while this line was with it."""


class Client:
    """A pool of connections to one engine's Unix socket; use it as an asynchronous context manager."""

    def __init__(self, socket: Path, *, alive: Callable[[], bool], attempts: int, timeout: float) -> None:
        """`alive` tells whether the engine's process runs; `timeout` is for one attempt, in seconds."""
        self._socket, self._alive, self._attempts = socket, alive, attempts
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket), limit=0),
            timeout=self._timeout,
            headers=HEADERS,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def answer(self, line: Line) -> Outcome:
        """The line's outcome. The engine's trouble is tried again, the request's own is not. Raises `EngineGone`."""
        started = time.monotonic()
        problem = Outcome(line=line, failed=True)
        for attempt in range(1, self._attempts + 1):
            outcome = await self._attempt(line, attempt, started)
            if outcome.status_code is not None and not _is_trouble(outcome):
                return outcome
            problem = outcome
            await asyncio.sleep(BACK_OFF[min(attempt, len(BACK_OFF)) - 1] if attempt < self._attempts else BACK_OFF[0])
            if not self._alive():
                raise EngineGone
        return problem

    async def _attempt(self, line: Line, attempt: int, started: float) -> Outcome:
        try:
            async with self._session.post(f"http://engine{line.url}", data=_payload(line)) as response:
                raw = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            message = f"The engine did not answer: {error or type(error).__name__}"
            return Outcome(line=line, failed=True, error_code="engine_error", error_message=message, attempts=attempt)
        return _outcome(line, response.status, raw, attempt, round((time.monotonic() - started) * 1000))


def _payload(line: Line) -> bytes:
    """The body with its priority, spliced into the text: nothing of it is read."""
    return (line.body[: line.body.rindex("}")] + AFTER_PEOPLE).encode()


def _is_trouble(outcome: Outcome) -> bool:
    status = outcome.status_code
    return status is None or status >= 500 or status in RETRIED


def _outcome(line: Line, status: int, raw: bytes, attempt: int, latency_ms: int) -> Outcome:
    raw = translated(status, raw) if status >= 400 else with_warning(raw)
    try:
        tokens = tokens_of(raw) or Tokens()
        body = (msgspec.json.format(raw, indent=-1) if b"\n" in raw else raw).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"The engine's answer (status {status}) is not valid JSON: {error}"
        return Outcome(line=line, failed=True, error_code="engine_error", error_message=message, attempts=attempt)
    return Outcome(
        line=line,
        failed=status != 200,
        status_code=status,
        body=body,
        request_id=new_id("req_"),
        attempts=attempt,
        latency_ms=latency_ms,
        input_tokens=tokens.input,
        cached_tokens=tokens.cached,
        output_tokens=tokens.output,
        reasoning_tokens=tokens.reasoning,
    )
