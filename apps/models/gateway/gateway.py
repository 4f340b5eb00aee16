"""Answers people's requests with an engine's answers, unchanged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import msgspec
from django.conf import settings
from yarl import URL

from apps.core.api.errors import ApiError
from apps.models import sampling
from apps.models.gateway import refusals
from apps.models.gateway.callers import Caller, Callers
from apps.models.gateway.crowd import Crowds, Place
from apps.models.gateway.database import in_thread
from apps.models.gateway.engines import Engines
from apps.models.gateway.events import ERROR, Events
from apps.models.gateway.meter import Meter
from apps.models.gateway.targets import POLL_SECONDS, Target, Targets
from apps.models.tokens import Tokens, tokens_of

ENDPOINTS = {
    path: URL(f"http://engine{path}")
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
}
TRIES = 2  # of a request whose engine died before it answered
BYTES_PER_TOKEN = 4  # of a prompt whose tokens nobody told
ASK_FOR_USAGE = b',"stream_options":{"include_usage":true}}'


class EngineLost(Exception):
    """The engine was gone, or died, before anything of its answer was sent."""

    def __init__(self, *, asked: bool) -> None:
        super().__init__()
        self.asked = asked
        """Whether it may have had the request."""


class Request:
    """What a caller sent. Raises `ApiError` 400 when that cannot be asked of an engine."""

    def __init__(self, caller: Caller, endpoint: str, body: bytes) -> None:
        try:
            asked = sampling.check_interactive(body)
        except sampling.Refused as error:
            raise ApiError(400, str(error), error.code, error.field) from error
        self.caller, self.endpoint, self.model = caller, endpoint, asked.model
        self.size = len(body)
        self.sent = False
        self.hides_usage = asked.stream and not asked.include_usage and endpoint.endswith("completions")
        """Whether we ask for a stream's usage, and the client does not."""
        # Of a name that comes twice the last one counts.
        self.body = body[: body.rindex(b"}")] + ASK_FOR_USAGE if self.hides_usage else body


@dataclass(slots=True)
class Answer:
    status: int
    content_type: str
    first: bytes
    """All of it, or the first events of a stream."""
    events: Events | None = None
    more: AsyncIterator[bytes] | None = None
    """A stream's other events, as they come."""

    @property
    def tokens(self) -> Tokens | None:
        """As far as the engine told."""
        if self.events:
            return self.events.tokens
        try:
            return tokens_of(self.first)
        except (msgspec.MsgspecError, RecursionError):
            return None


class Gateway:
    """What the requests of an event loop share.

    Not in charge of HTTP towards the client (`gateway.asgi`), nor of which engine runs (the GPU workers' plan).
    """

    def __init__(self) -> None:
        self.meter = Meter()
        self.callers = Callers(self.meter.recorded)
        self._targets = Targets()
        self._crowds = Crowds()
        self._engines = Engines()

    async def close(self) -> None:
        """Record what was counted, and let go of engines."""
        await self._crowds.close()
        await self._engines.close()
        await self.meter.close()

    @asynccontextmanager
    async def answer(self, request: Request) -> AsyncIterator[Answer]:
        """The engine's answer. Leaving it early ends the generation.

        Raises `ApiError` when the model is not there or not in time, or a limit is reached, and `django.db.Error`.
        """
        target = await self._find(request)
        if request.endpoint not in target.model.endpoints:
            raise refusals.wrong_endpoint(target.model, request.endpoint)
        with self.meter.admit(request.caller), self._crowds.join(target.model) as place:
            answer = None
            try:
                async with self._first(request, place) as answer:
                    yield answer
            finally:
                self._count(request, answer)

    async def _find(self, request: Request) -> Target:
        if not request.caller.allows_model(request.model):
            raise refusals.unknown_model(request.model)
        return await self._targets.find(request.caller.project, request.model)

    @asynccontextmanager
    async def _first(self, request: Request, place: Place) -> AsyncIterator[Answer]:
        """The answer of the first engine that lives long enough to begin one."""
        end = asyncio.get_running_loop().time() + settings.INTERACTIVE_WAIT_SECONDS
        deaths = 0
        while True:
            socket = await self._wait(request, place, end, pause=place.waiting)
            try:
                async with self._ask(request, socket) as answer:
                    place.waiting = False
                    yield answer
                    return
            except EngineLost as lost:
                deaths += lost.asked
                if deaths >= TRIES:
                    raise refusals.died() from lost
                self._targets.forget(request.caller.project, request.model)
                place.waiting = True

    async def _wait(self, request: Request, place: Place, end: float, *, pause: bool) -> str:
        """The socket of an engine that serves the model."""
        while True:
            if pause:
                await asyncio.sleep(POLL_SECONDS)
            target = await self._find(request)
            if asyncio.get_running_loop().time() > end:
                raise await in_thread(refusals.late)(target.model)
            if target.sockets:
                return min(target.sockets, key=self._engines.busy)
            if target.broken_for:
                raise await in_thread(refusals.broken)(target.model, target.broken_for)
            place.waiting = pause = True

    @asynccontextmanager
    async def _ask(self, request: Request, socket: str) -> AsyncIterator[Answer]:
        """Raises `EngineLost`, and `ApiError` 504."""
        try:
            async with self._engines.post(socket, ENDPOINTS[request.endpoint], request.body) as response:
                request.sent = True
                answer = await _begin(request, response)
                if _is_trouble(answer) and not await self._engines.healthy(socket):
                    raise EngineLost(asked=True)
                yield answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EngineLost(asked=False) from error
        except TimeoutError as error:
            raise refusals.slow(settings.REQUEST_TIMEOUT_SECONDS) from error
        except aiohttp.ClientError as error:
            raise EngineLost(asked=True) from error

    def _count(self, request: Request, answer: Answer | None) -> None:
        """What was broken off before its usage came counts as an event a token, and the prompt by its length."""
        failed = answer is None or answer.status >= 400
        tokens = answer.tokens if answer else None
        if tokens is None and request.sent and not (answer and failed):
            events = answer.events.count if answer and answer.events else 0
            tokens = Tokens(input=request.size // BYTES_PER_TOKEN, output=events)
        self.meter.count(request.caller, request.model, tokens or Tokens(), failed=failed)


async def _begin(request: Request, response: aiohttp.ClientResponse) -> Answer:
    """The head of the answer, and what the engine says first."""
    content_type = response.headers.get("content-type", "")
    if not content_type.startswith("text/event-stream"):
        return Answer(response.status, content_type, await response.read())
    events = Events(hide_usage=request.hides_usage)
    first = b""
    while not first and (chunk := await response.content.readany()):
        first = events.take(chunk)
    return Answer(response.status, content_type, first, events, _more(request, response, events))


async def _more(request: Request, response: aiohttp.ClientResponse, events: Events) -> AsyncIterator[bytes]:
    """The other events. When the engine dies the last one says so."""
    try:
        async for chunk in response.content.iter_any():
            if taken := events.take(chunk):
                yield taken
        if rest := events.rest():
            yield rest
    except TimeoutError:
        yield events.rest() + refusals.as_event(refusals.slow(settings.REQUEST_TIMEOUT_SECONDS), request.endpoint)
    except aiohttp.ClientError:
        yield events.rest() + refusals.as_event(refusals.died(), request.endpoint)


def _is_trouble(answer: Answer) -> bool:
    """Whether the engine may be dying. Of its own accord it fails a request too."""
    return answer.status >= 500 or answer.first.startswith(ERROR)
