"""Puts a known load on one engine and measures what its clients see. It knows a socket and figures, no database."""

import asyncio
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

WORDS = ("time", "river", "stone", "light", "garden", "paper", "winter", "music", "bridge", "letter", "cloud", "road")
TOKENS_PER_WORD = 1.0  # of these words, in most vocabularies; the engine's usage tells how many there were
TIMEOUT = aiohttp.ClientTimeout(total=600)
LOOK_SECONDS = 0.5  # between two looks at whether to stop
HISTOGRAM = re.compile(
    r"^vllm:(time_to_first_token|inter_token_latency)_seconds_(sum|count)\{[^}]*\} (\S+)", re.MULTILINE
)


class Interrupted(Exception):
    """The load was called off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the engine. Every prompt is different from its first word on: nothing comes from a cache."""

    model: str
    pooling: bool
    concurrency: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    """Made whatever the model would rather do (`ignore_eos`); for embeddings none are."""


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
    output_tokens: int
    requests_per_second: float
    output_tokens_per_second: float
    tokens_per_second: float
    """Prompts and answers."""
    first_token: Percentiles | None
    """From sending a request to its first token; None for embeddings."""
    inter_token: Percentiles | None
    """Between two tokens of an answer."""
    latency: Percentiles | None
    """From sending a request to the end of its answer; None when none was answered."""
    engine_first_token_ms: float | None
    """The mean, as the engine saw it."""
    engine_inter_token_ms: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Answer:
    started: float
    events: list[float]
    """When each event with a token came."""
    ended: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""


async def measure(socket: Path, load: Load, *, should_stop: Callable[[], bool]) -> Figures:
    """Keep `load.concurrency` requests in flight until all are answered.

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
    numbers = iter(range(load.requests))
    answers: list[_Answer] = []

    async def client() -> None:
        answers.extend([await _ask(session, load, number) for number in numbers])

    clients = asyncio.gather(*(client() for _ in range(min(load.concurrency, load.requests))))
    try:
        while not clients.done():
            await asyncio.wait([clients], timeout=LOOK_SECONDS)
            if should_stop():
                raise Interrupted
    finally:
        clients.cancel()
    return answers


async def _ask(session: aiohttp.ClientSession, load: Load, number: int) -> _Answer:
    answer = _Answer(time.monotonic(), [])
    path, body = _request(load, number)
    try:
        async with session.post(f"http://engine{path}", json=body) as response:
            if response.status != 200:
                answer.error = f"{response.status}: {(await response.text())[:300]}"
            elif load.pooling:
                _count(answer, (await response.json()).get("usage"))
            else:
                await _read_stream(response, answer)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        answer.error = f"The engine did not answer: {error or type(error).__name__}"
    answer.ended = time.monotonic()
    return answer


async def _read_stream(response: aiohttp.ClientResponse, answer: _Answer) -> None:
    async for line in response.content:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            answer.error = str(event["error"])[:300]
        if event.get("choices"):
            answer.events.append(time.monotonic())
        _count(answer, event.get("usage"))


def _count(answer: _Answer, usage: dict[str, Any] | None) -> None:
    if usage:
        answer.input_tokens = usage.get("prompt_tokens") or 0
        answer.output_tokens = usage.get("completion_tokens") or 0


def _request(load: Load, number: int) -> tuple[str, dict[str, Any]]:
    """The same for the same number, so that sweeps of two models can be compared."""
    chance = random.Random(number)  # noqa: S311 - no secret
    length = max(round(load.prompt_tokens / TOKENS_PER_WORD) - 4, 1)  # the number takes some tokens too
    words = [str(chance.getrandbits(24)), *chance.choices(WORDS, k=length)]
    prompt = " ".join(words)
    if load.pooling:
        return "/v1/embeddings", {"model": load.model, "input": prompt}
    return "/v1/completions", {
        "model": load.model,
        "prompt": prompt,
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


def _mean_ms(name: str, before: dict[str, Any], after: dict[str, Any]) -> float | None:
    old, new = before.get(name, (0.0, 0.0)), after.get(name, (0.0, 0.0))
    count = new[1] - old[1]
    return (new[0] - old[0]) / count * 1000 if count else None


def _figures(
    load: Load, answers: Sequence[_Answer], seconds: float, before: dict[str, Any], after: dict[str, Any]
) -> Figures:
    good = [answer for answer in answers if not answer.error]
    made = sum(answer.output_tokens for answer in good)
    given = sum(answer.input_tokens for answer in good)
    gaps = [later - earlier for answer in good for earlier, later in pairwise(answer.events)]
    return Figures(
        concurrency=load.concurrency,
        requests=len(answers),
        errors=len(answers) - len(good),
        error=next((answer.error for answer in answers if answer.error), ""),
        seconds=seconds,
        input_tokens=given,
        output_tokens=made,
        requests_per_second=len(good) / seconds,
        output_tokens_per_second=made / seconds,
        tokens_per_second=(made + given) / seconds,
        first_token=percentiles([answer.events[0] - answer.started for answer in good if answer.events]),
        inter_token=percentiles(gaps),
        latency=percentiles([answer.ended - answer.started for answer in good]),
        engine_first_token_ms=_mean_ms("time_to_first_token", before, after),
        engine_inter_token_ms=_mean_ms("inter_token_latency", before, after),
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
