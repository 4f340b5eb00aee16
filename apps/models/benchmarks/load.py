"""Puts a known load on one engine and measures what its clients see. It knows a socket and figures, no database."""

import asyncio
import random
import re
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from apps.models.tokens import Tokens, Usage

WORDS = ("time", "river", "stone", "light", "garden", "paper", "winter", "music", "bridge", "letter", "cloud", "road")
NUMBER_TOKENS = 8  # of the number before the words, which are a token each in most vocabularies; usage tells
PRIORITY = 1  # a batch's: people who use the engine meanwhile go first
TIMEOUT = aiohttp.ClientTimeout(total=600)
LOOK_SECONDS = 0.5  # between two looks at whether to stop
HISTOGRAM = re.compile(
    r"^vllm:(time_to_first_token|inter_token_latency)_seconds_(sum|count)\{[^}]*\} (\S+)", re.MULTILINE
)


class Interrupted(Exception):
    """The load was called off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the engine. Every prompt is new, from its first word on: a cache of prefixes helps nobody."""

    model: str
    pooling: bool
    concurrency: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    """Made whatever the model would rather do (`ignore_eos`); for embeddings none are."""
    seconds: float
    """After which no request is begun, so that a slow engine is measured with fewer."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of a load."""

    concurrency: int
    requests: int
    errors: int
    error: str
    """The first one's message."""
    seconds: float
    input_tokens: int
    cached_tokens: int
    """Of the input, what the engine did not have to compute: next to none, or the figures flatter."""
    output_tokens: int
    others: int
    """Requests of others that the engine answered meanwhile, and that disturbed the figures; 0 for embeddings."""
    requests_per_second: float
    output_tokens_per_second: float
    tokens_per_second: float
    """Prompts and answers."""
    first_token: Percentiles | None
    """From sending a request to its first token; None for embeddings."""
    inter_token: Percentiles | None
    """Between two tokens of an answer; tokens that came together share the time before them."""
    latency: Percentiles | None
    """From sending a request to the end of its answer; None when none was answered."""
    engine_first_token_ms: float | None
    """The mean, as the engine saw it."""
    engine_inter_token_ms: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Event(msgspec.Struct):
    """Of a stream; an answer to embeddings is one too."""

    choices: list[msgspec.Raw] = []
    usage: Usage | None = None
    error: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(slots=True)
class _Answer:
    started: float
    events: "array[float]" = field(default_factory=lambda: array("d"))
    """When each event with a part of the answer came."""
    ended: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    error: str = ""

    @property
    def gaps(self) -> list[float]:
        """Seconds between its tokens."""
        share = (len(self.events) - 1) / max(self.tokens.output - 1, 1)
        return [(later - earlier) * share for earlier, later in pairwise(self.events)]


async def measure(socket: Path, load: Load, *, should_stop: Callable[[], bool]) -> Figures:
    """Keep `load.concurrency` requests in flight until all are answered, or time is up.

    Raises `Interrupted`, and `aiohttp.ClientError` when the engine is not there at all.
    """
    connector = aiohttp.UnixConnector(str(socket), limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
        before = await _histograms(session)
        began = time.monotonic()
        answers = await _send_all(session, load, should_stop)
        seconds = time.monotonic() - began
        after = await _histograms(session)
    return _figures(load, answers, seconds, before, after)


async def _send_all(session: aiohttp.ClientSession, load: Load, should_stop: Callable[[], bool]) -> list[_Answer]:
    left, end = iter(range(load.requests)), time.monotonic() + load.seconds
    answers: list[_Answer] = []

    async def client() -> None:
        while time.monotonic() < end and next(left, None) is not None:
            answers.append(await _ask(session, load))

    clients = asyncio.gather(*(client() for _ in range(min(load.concurrency, load.requests))))
    try:
        while not (await asyncio.wait([clients], timeout=LOOK_SECONDS))[0]:
            if should_stop():
                raise Interrupted
        clients.result()
    finally:
        clients.cancel()
    return answers


async def _ask(session: aiohttp.ClientSession, load: Load) -> _Answer:
    path, body = _request(load)
    answer = _Answer(time.monotonic())
    try:
        async with session.post(f"http://engine{path}", json=body) as response:
            if response.status != 200:
                answer.error = f"{response.status}: {(await response.text())[:300]}"
            elif load.pooling:
                _take(answer, await response.read())
            else:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        _take(answer, line[6:])
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
        answer.error = f"The engine did not answer: {error or type(error).__name__}"
    answer.ended = time.monotonic()
    return answer


def _take(answer: _Answer, raw: bytes) -> None:
    event = _decode(raw)
    if event.choices:
        answer.events.append(time.monotonic())
    if event.usage:
        answer.tokens = event.usage.tokens
    if event.error:
        answer.error = bytes(event.error).decode()[:300]


def _request(load: Load) -> tuple[str, dict[str, Any]]:
    """Its path and body; the words mean nothing, and every model is asked as many."""
    words = random.choices(WORDS, k=max(load.prompt_tokens - NUMBER_TOKENS, 0))  # noqa: S311 - no secret
    prompt = " ".join([str(random.getrandbits(24)), *words])
    if load.pooling:
        return "/v1/embeddings", {"model": load.model, "input": prompt, "priority": PRIORITY}
    return "/v1/completions", {
        "model": load.model,
        "prompt": prompt,
        "priority": PRIORITY,
        "max_tokens": load.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _histograms(session: aiohttp.ClientSession) -> dict[str, tuple[float, float]]:
    """The engine's own times: name -> (sum in seconds, count)."""
    async with session.get("http://engine/metrics") as response:
        text = await response.text()
    sums: dict[str, dict[str, float]] = {}
    for name, part, value in HISTOGRAM.findall(text):
        parts = sums.setdefault(name, {"sum": 0.0, "count": 0.0})
        parts[part] += float(value)
    return {name: (parts["sum"], parts["count"]) for name, parts in sums.items()}


def _grown(name: str, before: dict[str, Any], after: dict[str, Any]) -> tuple[int, float | None]:
    """By how many observations, and their mean in milliseconds."""
    old, new = before.get(name, (0.0, 0.0)), after.get(name, (0.0, 0.0))
    count = int(new[1] - old[1])
    return count, (new[0] - old[0]) / count * 1000 if count > 0 else None


def _figures(
    load: Load, answers: Sequence[_Answer], seconds: float, before: dict[str, Any], after: dict[str, Any]
) -> Figures:
    good = [answer for answer in answers if not answer.error]
    made = sum(answer.tokens.output for answer in good)
    given = sum(answer.tokens.input for answer in good)
    gaps: array[float] = array("d", (gap for answer in good for gap in answer.gaps))
    begun, first_token_ms = _grown("time_to_first_token", before, after)
    return Figures(
        concurrency=load.concurrency,
        requests=len(answers),
        errors=len(answers) - len(good),
        error=next((answer.error for answer in answers if answer.error), ""),
        seconds=seconds,
        input_tokens=given,
        cached_tokens=sum(answer.tokens.cached for answer in good),
        output_tokens=made,
        others=max(begun - len(answers), 0),
        requests_per_second=len(good) / seconds,
        output_tokens_per_second=made / seconds,
        tokens_per_second=(made + given) / seconds,
        first_token=percentiles([answer.events[0] - answer.started for answer in good if answer.events]),
        inter_token=percentiles(gaps),
        latency=percentiles([answer.ended - answer.started for answer in good]),
        engine_first_token_ms=first_token_ms,
        engine_inter_token_ms=_grown("inter_token_latency", before, after)[1],
    )


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """In milliseconds, interpolated between neighbours; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return (ordered[low] + (ordered[high] - ordered[low]) * (place - low)) * 1000

    return Percentiles(at(0.5), at(0.95), at(0.99))
