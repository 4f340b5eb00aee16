"""Mixed load for one GPU, drawn from a seed: what arrives when, on which models. Times are seconds from midnight."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

GIB = 1024**3
HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """A model on one 80 GB GPU, in 16 bit: orders of magnitude as vLLM's users report them."""

    name: str
    share: float
    """Of the requests' models: how often it is asked for."""
    request: float
    """Seconds per request of 200 tokens, with the window full."""
    start: float
    wake: float
    gib: float
    """Of its weights."""


MODELS = {
    1: EngineFacts("0.6B", 0.15, 1 / 75, start=40, wake=0.8, gib=1.2),
    2: EngineFacts("1.7B", 0.15, 1 / 50, start=45, wake=1.0, gib=3.4),
    3: EngineFacts("4B", 0.20, 1 / 30, start=50, wake=1.3, gib=8),
    4: EngineFacts("8B", 0.25, 1 / 20, start=60, wake=1.8, gib=16),
    5: EngineFacts("14B", 0.15, 1 / 11, start=75, wake=2.7, gib=29),
    6: EngineFacts("32B", 0.10, 1 / 5, start=110, wake=5.0, gib=65),
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """Work that comes at a moment. `model_id` None: training, `size` its seconds; else requests."""

    at: float
    kind: str
    model_id: int | None
    size: int
    window: float = DAY
    priority: int = 0


def mixed_day(random: Random) -> list[Arrival]:
    """A team's day: sets of prompts compared over several models, single batches, people who chat, one training."""
    arrivals = [
        *_comparisons(random, 120),
        *_batches(random, 20),
        *_chats(random, 25),
        Arrival(random.uniform(18, 22) * HOUR, "training", None, int(random.uniform(1.5, 3) * HOUR)),
    ]
    return sorted(arrivals, key=lambda arrival: arrival.at)


def backlog(random: Random) -> list[Arrival]:
    """Half a day's batches, all there at once in the order in which they came: the GPU was away for a night."""
    arrivals = sorted([*_comparisons(random, 60), *_batches(random, 10)], key=lambda arrival: arrival.at)
    return [replace(arrival, at=number * 0.001) for number, arrival in enumerate(arrivals)]


def large_batches(random: Random) -> list[Arrival]:
    """Only single batches: hardly anything to win, since they outlast a switch by far."""
    return sorted(_batches(random, 60), key=lambda arrival: arrival.at)


def _comparisons(random: Random, per_day: int) -> Iterator[Arrival]:
    """A set of 50 to 3,000 prompts goes to two to five models at once."""
    for _ in range(_poisson(random, per_day)):
        at, size = _moment(random), _log_uniform(random, 50, 3000)
        for model_id in _models(random, random.randint(2, 5)):
            yield Arrival(at, "batches", model_id, size)


def _batches(random: Random, per_day: int) -> Iterator[Arrival]:
    """500 to 30,000 requests; the small ones may be in a hurry, or matter more."""
    for _ in range(_poisson(random, per_day)):
        size = _log_uniform(random, 500, 30_000)
        window = 4 * HOUR if size < 2000 and random.random() < 0.5 else DAY
        priority = 5 if random.random() < 0.1 else 0
        yield Arrival(_moment(random), "batches", _models(random, 1)[0], size, window, priority)


def _chats(random: Random, per_day: int) -> Iterator[Arrival]:
    """Somebody chats with a model for some minutes in office hours; every message is an arrival."""
    for _ in range(_poisson(random, per_day)):
        at, (model_id,) = random.uniform(9, 18) * HOUR, _models(random, 1)
        for _ in range(1 + int(random.expovariate(1 / 10))):
            yield Arrival(at, "interactive", model_id, 1)
            at += 5 + random.expovariate(1 / 20)


def _moment(random: Random) -> float:
    """Half of a day's work comes in office hours, the other half (scripts, other time zones) at any hour."""
    return random.uniform(9, 18) * HOUR if random.random() < 0.5 else random.uniform(0, 24) * HOUR


def _models(random: Random, count: int) -> list[int]:
    """Different ones, the popular ones more often."""
    keys = {model_id: random.random() ** (1 / facts.share) for model_id, facts in MODELS.items()}
    return sorted(keys, key=lambda model_id: -keys[model_id])[:count]


def _log_uniform(random: Random, least: int, most: int) -> int:
    """Every order of magnitude is as likely as another."""
    return round(math.exp(random.uniform(math.log(least), math.log(most))))


def _poisson(random: Random, mean: float) -> int:
    count, time = 0, random.expovariate(mean)
    while time < 1:
        count, time = count + 1, time + random.expovariate(mean)
    return count
