"""The load driver against the fake engine, whose delays are known."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.models.benchmarks.load import Figures, Interrupted, Load, measure, percentiles
from tests.batches.lender import Lender

LATENCY, TOKEN = 0.05, 0.02  # seconds


@pytest.fixture(scope="module")
def priorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("priorities") / "priorities"


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory, priorities: Path) -> Iterator[Lender]:
    folder = tmp_path_factory.mktemp("engine")
    with Lender(
        folder,
        FAKE_ENGINE_LATENCY=str(LATENCY),
        FAKE_ENGINE_TOKEN_SECONDS=str(TOKEN),
        FAKE_ENGINE_PRIORITIES=str(priorities),
    ) as lender:
        yield lender


def run(
    lender: Lender, *, concurrency: int = 4, requests: int = 16, model: str = "test-model", pooling: bool = False
) -> Figures:
    load = make_load(model=model, pooling=pooling, concurrency=concurrency, requests=requests)
    return asyncio.run(measure(lender.engine.spec.socket, load, should_stop=lambda: False))


def make_load(**changes: Any) -> Load:
    usual = {"model": "test-model", "pooling": False, "prompt_tokens": 40, "output_tokens": 8, "seconds": 60}
    return Load(**{**usual, **changes})


def test_it_works(lender: Lender, priorities: Path) -> None:
    figures = run(lender)
    assert (figures.concurrency, figures.requests, figures.errors) == (4, 16, 0)
    assert figures.input_tokens > 16 * 20
    assert figures.first_token
    assert figures.inter_token
    assert figures.latency
    assert LATENCY * 1000 <= figures.first_token.p50 <= LATENCY * 1000 + 30
    assert figures.inter_token.p50 == pytest.approx(TOKEN * 1000, rel=0.3)
    assert figures.latency.p50 > figures.first_token.p50 + 2 * TOKEN * 1000
    assert figures.requests_per_second == pytest.approx(16 / figures.seconds)
    assert figures.output_tokens == 16 * 8
    assert figures.output_tokens_per_second == pytest.approx(4 * 8 / (LATENCY + 9 * TOKEN), rel=0.25)
    assert set(priorities.read_text().split()) == {"1"}  # people who use the engine meanwhile go first


def test_it_keeps_as_many_in_flight_as_it_says(lender: Lender) -> None:
    one, eight = run(lender, concurrency=1, requests=8), run(lender, concurrency=8, requests=8)
    assert one.seconds / eight.seconds > 4


def test_no_prompt_begins_like_one_before(lender: Lender) -> None:
    """Or vLLM, which keeps what it computed of a prompt, would seem several times as fast in the second run."""
    run(lender, requests=16)
    run(lender, requests=16)
    assert len({prompt.split()[0] for prompt in lender.called()[-32:]}) == 32


def test_tokens_that_come_together_share_the_time(tmp_path: Path) -> None:
    with Lender(tmp_path, FAKE_ENGINE_TOKEN_SECONDS=str(TOKEN), FAKE_ENGINE_EVENT_TOKENS="4") as lender:
        figures = run(lender)
    assert figures.output_tokens == 16 * 8
    assert figures.inter_token
    assert figures.inter_token.p50 == pytest.approx(TOKEN * 1000 / 7, rel=0.3)  # one pause for seven tokens


def test_it_measures_embeddings(tmp_path: Path) -> None:
    with Lender(tmp_path, runner="pooling", FAKE_ENGINE_LATENCY=str(LATENCY)) as lender:
        figures = run(lender, pooling=True)
    assert (figures.errors, figures.output_tokens, figures.first_token, figures.inter_token) == (0, 0, None, None)
    assert figures.latency
    assert LATENCY * 1000 <= figures.latency.p50 <= LATENCY * 1000 + 30
    assert figures.requests_per_second == pytest.approx(4 / LATENCY, rel=0.3)


def test_it_counts_what_the_engine_refuses(lender: Lender) -> None:
    figures = run(lender, model="nobody", requests=5)
    assert (figures.errors, figures.latency, figures.first_token) == (5, None, None)
    assert "404" in figures.error
    assert "nobody" in figures.error


def test_it_can_be_called_off(lender: Lender) -> None:
    load = make_load(concurrency=1, requests=10_000)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        asyncio.run(measure(lender.engine.spec.socket, load, should_stop=lambda: time.monotonic() - began > 1))
    assert time.monotonic() - began < 3


def test_it_begins_nothing_when_time_is_up(lender: Lender) -> None:
    load = make_load(concurrency=2, requests=10_000, seconds=1)
    figures = asyncio.run(measure(lender.engine.spec.socket, load, should_stop=lambda: False))
    assert 1 <= figures.seconds < 2
    assert 6 <= figures.requests <= 12
    assert figures.requests_per_second == pytest.approx(2 / (LATENCY + 9 * TOKEN), rel=0.3)


def test_it_survives_an_engine_that_dies(tmp_path: Path) -> None:
    with Lender(tmp_path, FAKE_ENGINE_LATENCY="0.2") as lender:
        load = make_load(concurrency=2, requests=200)
        killed = time.monotonic() + 0.5

        def kill_once() -> bool:
            if time.monotonic() > killed and lender.engine.alive():
                lender.engine.stop(0)
            return False

        with pytest.raises(OSError, match="engine"):
            asyncio.run(measure(lender.engine.spec.socket, load, should_stop=kill_once))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([0.1], (100, 100, 100)), ([0.0, 0.1], (50, 95, 99)), ([n / 1000 for n in range(101)], (50, 95, 99))],
)
def test_percentiles(seconds: list[float], expected: tuple[float, ...]) -> None:
    found = percentiles(seconds)
    assert found
    assert (found.p50, found.p95, found.p99) == pytest.approx(expected)


def test_there_are_no_percentiles_of_nothing() -> None:
    assert percentiles([]) is None
