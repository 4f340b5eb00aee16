"""What only a GPU can show: how fast an engine wakes, that it says the same then, and what it takes of the memory."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pynvml
import pytest

from apps.models.admission.safetensors import read_tensors
from apps.models.engines.engine import Engine
from apps.models.engines.settings import EngineSettings
from apps.models.installs.fit import estimate, loaded_bytes
from apps.models.slots import detect
from tests.models.engines import ask, cached_tokens, family
from tests.models.test_engine_real import MODEL, READY_SECONDS, make_spec, write_adapter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.engine,
    pytest.mark.skipif(detect() == ["cpu"], reason="needs an NVIDIA GPU"),
]
QUESTION = "Name the capital of France."
CHOSEN = EngineSettings(gpu_memory_utilization=0.3, extra_lora_slots=1)


class Measured(Engine):
    cold_seconds: float
    took_bytes: int
    """Of the GPU, once it was ready."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """One that is ready, on the first GPU, with room for an adapter that is loaded later."""
    folder = tmp_path_factory.mktemp("engine")
    spec = replace(make_spec(folder), device="0", settings=CHOSEN)
    engine = Measured(spec)
    began, before = time.monotonic(), used_bytes()
    engine.start()
    engine.wait_ready(READY_SECONDS, lambda: False)
    engine.cold_seconds, engine.took_bytes = time.monotonic() - began, used_bytes() - before
    yield engine
    engine.stop(20)
    assert not family(engine)


def used_bytes() -> int:
    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    finally:
        pynvml.nvmlShutdown()


def test_it_works(engine: Measured) -> None:
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


def test_it_keeps_adapters_over_a_sleep(engine: Measured, tmp_path_factory: pytest.TempPathFactory) -> None:
    engine.load_adapter(write_adapter(tmp_path_factory.mktemp("adapters") / "later"))
    said = ask(engine, QUESTION, model="later")
    assert said == ask(engine, QUESTION)
    engine.sleep()
    engine.wake()
    assert ask(engine, QUESTION, model="later") == said


def test_its_fit_was_estimated_well(engine: Measured) -> None:
    """Weights, overhead, and a cache of as many tokens as the engine found room for."""
    weights = loaded_bytes(read_tensors(MODEL / "model.safetensors"))
    need = estimate(json.loads((MODEL / "config.json").read_text()), weights, max_num_seqs=engine.spec.max_num_seqs)
    expected = need.weights + need.overhead + need.kv_per_token * cached_tokens(engine)
    print(f"\n{expected >> 20} MiB expected, {engine.took_bytes >> 20} measured")
    assert expected == pytest.approx(engine.took_bytes, rel=0.1)
