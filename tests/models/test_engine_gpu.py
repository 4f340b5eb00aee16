"""What only a GPU can show: an engine that sleeps wakes far faster than it starts, and says the same."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pynvml
import pytest

from apps.models.engine import Engine
from apps.models.engine_settings import EngineSettings
from apps.models.slots import detect
from tests.models.engines import ask, family
from tests.models.test_engine_real import READY_SECONDS, make_spec, write_adapter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.engine,
    pytest.mark.skipif(detect() == ["cpu"], reason="needs an NVIDIA GPU"),
]
QUESTION = "Name the capital of France."
CHOSEN = EngineSettings(gpu_memory_utilization=0.3, extra_lora_slots=1)


class Timed(Engine):
    cold_seconds: float


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timed]:
    """One that is ready, on the first GPU, with room for an adapter that is loaded later."""
    folder = tmp_path_factory.mktemp("engine")
    spec = replace(make_spec(folder), device="0", adapters=(), settings=CHOSEN)
    engine = Timed(spec)
    began = time.monotonic()
    engine.start()
    engine.wait_ready(READY_SECONDS, lambda: False)
    engine.cold_seconds = time.monotonic() - began
    yield engine
    engine.stop(20)
    assert not family(engine)


def used_bytes() -> int:
    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    finally:
        pynvml.nvmlShutdown()


def test_it_works(engine: Timed) -> None:
    """A wake-up compares the canary with the one from before the first sleep, or fails."""
    said, awake = ask(engine, QUESTION), used_bytes()
    began = time.monotonic()
    engine.sleep()
    asleep = used_bytes()
    assert engine.is_sleeping()
    engine.wake()
    seconds = time.monotonic() - began
    print(f"\nsleep and wake {seconds:.2f} s, cold start {engine.cold_seconds:.1f} s")
    print(f"{awake >> 20} MiB of the GPU awake, {asleep >> 20} asleep")
    assert seconds <= 0.1 * engine.cold_seconds
    assert asleep < awake / 2
    assert ask(engine, QUESTION) == said


def test_it_keeps_adapters_over_a_sleep(engine: Timed, tmp_path_factory: pytest.TempPathFactory) -> None:
    engine.load_adapter(write_adapter(tmp_path_factory.mktemp("adapters") / "later"))
    said = ask(engine, QUESTION, model="later")
    assert said == ask(engine, QUESTION)
    engine.sleep()
    engine.wake()
    assert ask(engine, QUESTION, model="later") == said
