"""The load driver against the fake engine, whose delays are known."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.models.load import Figures, Interrupted, Load, measure, percentiles
from tests.batches.lender import Lender

LATENCY, TOKEN = 0.05, 0.02  # seconds


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    folder = tmp_path_factory.mktemp("engine")
    with Lender(folder, FAKE_ENGINE_LATENCY=str(LATENCY), FAKE_ENGINE_TOKEN_SECONDS=str(TOKEN)) as lender:
        yield lender


def run(lender: Lender, *, concurrency: int = 4, requests: int = 16, model: str = "test-model") -> Figures:
    load = Load(
        model=model, pooling=False, concurrency=concurrency, requests=requests, prompt_tokens=40, output_tokens=8
    )
    return asyncio.run(measure(lender.engine.spec.socket, load, should_stop=lambda: False))


def test_it_works(lender: Lender) -> None:
    figures = run(lender)
    assert (figures.concurrency, figures.requests, figures.errors) == (4, 16, 0)
    assert figures.input_tokens > 16 * 20
    assert figures.first_token
    assert figures.inter_token
    assert figures.latency
    assert LATENCY * 1000 <= figures.first_token.p50 <= LATENCY * 1000 + 15
    assert figures.inter_token.p50 == pytest.approx(TOKEN * 1000, rel=0.3)
    assert figures.latency.p50 > figures.first_token.p50 + 2 * TOKEN * 1000
    assert figures.requests_per_second == pytest.approx(16 / figures.seconds)


def test_it_keeps_as_many_in_flight_as_it_says(lender: Lender) -> None:
    one, eight = run(lender, concurrency=1, requests=8), run(lender, concurrency=8, requests=8)
    assert one.seconds / eight.seconds > 4


def test_no_two_prompts_begin_alike(lender: Lender) -> None:
    run(lender, requests=16)
    assert len({prompt.split()[0] for prompt in lender.called()[-16:]}) == 16


def test_it_counts_what_the_engine_refuses(lender: Lender) -> None:
    figures = run(lender, model="nobody", requests=5)
    assert (figures.errors, figures.latency, figures.first_token) == (5, None, None)
    assert "404" in figures.error
    assert "nobody" in figures.error


def test_it_can_be_called_off(lender: Lender) -> None:
    load = Load(model="test-model", pooling=False, concurrency=1, requests=10_000, prompt_tokens=40, output_tokens=8)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        asyncio.run(measure(lender.engine.spec.socket, load, should_stop=lambda: time.monotonic() - began > 1))
    assert time.monotonic() - began < 3


def test_it_survives_an_engine_that_dies(tmp_path: Path) -> None:
    with Lender(tmp_path, FAKE_ENGINE_LATENCY="0.2") as lender:
        load = Load(model="test-model", pooling=False, concurrency=2, requests=200, prompt_tokens=40, output_tokens=8)
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
