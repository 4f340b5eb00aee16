"""One request's way to an engine and back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType

import aiohttp
import msgspec
from django.conf import settings
from yarl import URL

from apps.core.api.bodies import IGNORED_HEADER, MAX_IGNORED, header_text
from apps.core.api.errors import ApiError
from apps.models import dialect, sampling
from apps.models.blanks import with_warning
from apps.models.gateway import refusals, tokens
from apps.models.gateway.callers import Caller
from apps.models.gateway.crowd import Crowds
from apps.models.gateway.database import in_thread
from apps.models.gateway.engines import Connection, EngineLost, Engines
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
PASSED_HEADERS = ("metadata",)  # where each vector lies in the bytes of `encoding_format: bytes`
ASK_FOR_USAGE = b',"stream_options":{"include_usage":true}}'


class Request:
    """What a caller sent. Raises `ApiError` 400 when that cannot be asked of an engine."""

    def __init__(self, caller: Caller, endpoint: str, body: bytes) -> None:
        try:
            asked = sampling.check_interactive(body, endpoint)
        except sampling.Refused as error:
            raise ApiError(400, str(error), error.code, error.field) from error
        self.caller, self.endpoint, self.model = caller, endpoint, asked.model
        body = asked.body
        self.size = len(body)
        self.ignored = asked.ignored
        """A sentence for each name that the engine passes over."""
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
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Beside the content's type and length."""

    @property
    def tokens(self) -> Tokens | None:
        """As far as the engine told."""
        if self.events:
            return self.events.tokens
        try:
            return tokens_of(self.first)
        except (msgspec.MsgspecError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Shared:
    """What the requests of an event loop share."""

    meter: Meter
    targets: Targets
    crowds: Crowds
    engines: Engines


class Exchange:
    """An asynchronous context manager: inside it is the engine's answer. Leaving it early ends the generation.

    Raises `ApiError` when the model is not there or not in time, or a limit is reached, and `django.db.Error`.
    """

    def __init__(self, shared: Shared, request: Request) -> None:
        self._meter, self._targets = shared.meter, shared.targets
        self._crowds, self._engines = shared.crowds, shared.engines
        self._request = request
        self._answer: Answer | None = None
        self._connection: Connection | None = None
        self._asked = False  # an engine may be at work on it

    async def __aenter__(self) -> Answer:
        target = await self._find()
        if self._request.endpoint not in target.model.endpoints:
            raise refusals.wrong_endpoint(target.model, self._request.endpoint)
        if (beyond := target.model.tokens_beyond) and (token := tokens.find(self._request.body, beyond)):
            raise refusals.unknown_token(target.model, token)
        self._meter.enter(self._request.caller)
        self._place = self._crowds.join(target.model)
        try:
            self._answer = await self._first(target)
        except BaseException as error:
            self._asked &= isinstance(error, asyncio.CancelledError)  # what we fail to answer costs nothing
            self._leave()
            raise
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._drop()
        self._place.leave()
        self._meter.leave(self._request.caller)
        self._count()

    def _drop(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    async def _find(self) -> Target:
        request = self._request
        if not request.caller.allows_model(request.model):
            raise refusals.unknown_model(request.model)
        return await self._targets.find(request.caller.project, request.model)

    async def _first(self, target: Target) -> Answer:
        """The answer of the first engine that lives long enough to begin one."""
        end = asyncio.get_running_loop().time() + settings.INTERACTIVE_WAIT_SECONDS
        deaths = 0
        while True:
            while not target.sockets:
                target = await self._wait(target, end)
            try:
                answer = await self._ask(min(target.sockets, key=self._engines.busy))
            except EngineLost as lost:
                self._drop()
                self._asked = False
                deaths += lost.asked
                if deaths >= TRIES:
                    raise refusals.died() from lost
                self._targets.forget(self._request.caller.project, self._request.model)
                target = await self._wait(target, end)
            else:
                self._place.serve()
                return answer

    async def _wait(self, target: Target, end: float) -> Target:
        """What answers for the model in a moment."""
        if target.model.problem:
            raise refusals.unserved(target.model)
        if target.broken_for and not target.sockets:
            raise await in_thread(refusals.broken)(target.model, target.broken_for)
        if asyncio.get_running_loop().time() > end:
            raise await in_thread(refusals.late)(target.model)
        self._place.waiting = True
        await asyncio.sleep(POLL_SECONDS)
        return await self._find()

    async def _ask(self, socket: str) -> Answer:
        """Raises `EngineLost`, and `ApiError` 504."""
        self._asked = True
        try:
            self._connection = await self._engines.post(socket, ENDPOINTS[self._request.endpoint], self._request.body)
            answer = await _begin(self._request, self._connection.response)
        except TimeoutError as error:
            raise refusals.slow(settings.REQUEST_TIMEOUT_SECONDS) from error
        except aiohttp.ClientError as error:
            raise EngineLost(asked=True) from error
        if _is_trouble(answer) and not await self._engines.healthy(socket):
            raise EngineLost(asked=True)
        return answer

    def _count(self) -> None:
        """What was broken off before its usage came counts as an event a token, and the prompt by its length."""
        request, answer = self._request, self._answer
        failed = answer is None or answer.status >= 400
        tokens = answer.tokens if answer else None
        if tokens is None and self._asked and not (answer and failed):
            events = answer.events.count if answer and answer.events else 0
            tokens = Tokens(input=request.size // BYTES_PER_TOKEN, output=events)
        self._meter.count(request.caller, request.model, tokens or Tokens(), failed=failed)


async def _begin(request: Request, response: aiohttp.ClientResponse) -> Answer:
    """The head of the answer, and what the engine says first."""
    content_type = response.headers.get("content-type", "")
    headers = _headers(request, response)
    if not content_type.startswith("text/event-stream"):
        said = await response.read()
        if response.status >= 400:
            return Answer(
                response.status, "application/json", dialect.translated(response.status, said), headers=headers
            )
        return Answer(response.status, content_type, with_warning(said), headers=headers)
    events = Events(hide_usage=request.hides_usage)
    first = b""
    while not first and (chunk := await response.content.readany()):
        first = events.take(chunk)
    return Answer(response.status, content_type, first, events, _more(request, response, events), headers)


def _headers(request: Request, response: aiohttp.ClientResponse) -> tuple[tuple[bytes, bytes], ...]:
    """Those of the engine that belong to the answer, and what it will pass over of the request."""
    passed = [(name.encode(), response.headers[name].encode("latin-1", "replace")) for name in PASSED_HEADERS
              if name in response.headers]  # fmt: skip
    ignored = [(IGNORED_HEADER.encode(), header_text(sentence).encode()) for sentence in request.ignored[:MAX_IGNORED]]
    return (*passed, *ignored)


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
