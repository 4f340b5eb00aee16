"""The engine's driver against the real vLLM, with the real demo model. One start serves the file's requests."""

import json
import os
import re
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from apps.models.engines.command import command
from apps.models.engines.engine import Adapter, Engine, EngineSpec
from apps.models.engines.settings import EngineSettings
from apps.models.installs.fit import estimate
from tests.models import engines
from tests.models.engines import all_gone, ask, cached_tokens, eventually

pytestmark = pytest.mark.engine

# "What is the capital of …?" stands on a knife's edge for this model: rounding, which differs between CPUs, decides.

READY_SECONDS = 240
MODEL = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"  # made by `make setup`
EVERYTHING = EngineSettings(
    max_model_len=1024,
    quantization="fp8",
    kv_cache_dtype="fp8",
    extra_lora_slots=1,
    tool_call_parser="hermes",
    tool_strict_level="parameter",
)
RANK = 8
WIDTH = 576  # of the demo model


def write_adapter(folder: Path) -> Adapter:
    """A LoRA adapter in PEFT's layout that changes nothing: its weights are zero."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    end = 0
    for letter, shape in (("A", [RANK, WIDTH]), ("B", [WIDTH, RANK])):
        start, end = end, end + 2 * RANK * WIDTH
        name = f"base_model.model.model.layers.0.self_attn.q_proj.lora_{letter}.weight"
        tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(tensors).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))
    return Adapter(folder.name, folder)


def make_spec(folder: Path) -> EngineSpec:
    return EngineSpec(
        python=settings.ENGINE_PYTHON, model=MODEL, served_name="smol", runner="generate", socket=folder / "e.sock",
        log=folder / "engine.log", cwd=settings.BASE_DIR, device="cpu", max_num_seqs=16, kv_cache_gib=1,
        max_loras=2, max_lora_rank=RANK,
    )  # fmt: skip


def start(engine: Engine) -> None:
    engine.start()
    engine.wait_ready(READY_SECONDS, lambda: False)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One that is ready, with an adapter."""
    folder = tmp_path_factory.mktemp("engine")
    engine = Engine(make_spec(folder))
    start(engine)
    engine.load_adapter(write_adapter(folder / "first"))
    yield engine
    engine.stop(20)


def test_it_works(engine: Engine) -> None:
    assert "Paris" in ask(engine, "Name the capital of France.")


def test_it_takes_priorities(engine: Engine) -> None:
    assert "Rome" in ask(engine, "Name the capital of Italy.", priority=10)


def test_it_says_how_much_of_a_prompt_was_cached(engine: Engine) -> None:
    body = {"model": "smol", "prompt": "one two three four five " * 80, "max_tokens": 1}
    usages = [engines.post(engine, "/v1/completions", body)[1]["usage"] for _ in range(2)]
    assert usages[1]["prompt_tokens_details"]["cached_tokens"] >= 128  # a block, on a CPU


def test_its_cache_holds_what_was_estimated(engine: Engine) -> None:
    need = estimate(json.loads((MODEL / "config.json").read_text()), 0, on_cpu=True)
    assert cached_tokens(engine) * need.kv_per_token == pytest.approx(2**30, rel=0.01)


def test_it_answers_responses(engine: Engine) -> None:
    body = {"model": "smol", "input": "Name the capital of France.", "max_output_tokens": 16, "temperature": 0}
    status, answer = engines.post(engine, "/v1/responses", body)
    assert status == 200
    assert "Paris" in answer["output"][-1]["content"][0]["text"]


def test_it_loads_and_unloads_adapters(engine: Engine, tmp_path: Path) -> None:
    second = write_adapter(tmp_path / "second")
    engine.load_adapter(second)
    question = "Name the capital of France."
    assert ask(engine, question, model="first") == ask(engine, question, model="second") == ask(engine, question)
    engine.unload_adapter("second")
    assert engines.post(engine, "/v1/completions", {"model": "second", "prompt": "a"})[0] == 404


def test_it_drains(engine: Engine) -> None:
    assert engine.drain(10)


def test_every_flag_is_vllm_s(tmp_path: Path) -> None:
    help_command = [str(settings.ENGINE_PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--help=all"]
    known = set(
        re.findall(r"--[a-z-]+", subprocess.run(help_command, capture_output=True, text=True, check=True).stdout)
    )
    used = {flag for spec in specs(tmp_path) for flag in command(spec) if flag.startswith("--")}
    assert used <= known


def specs(folder: Path) -> list[EngineSpec]:
    """One for a CPU, one for a GPU."""
    spec = make_spec(folder)
    fields = {name: getattr(spec, name) for name in spec.__slots__}
    return [spec, EngineSpec(**(fields | {"device": "0", "settings": EVERYTHING}))]


@pytest.mark.parametrize("victim", [engines.api_server, engines.engine_core])
def test_it_survives_kill(engine: Engine, victim: Callable[[Engine], int]) -> None:
    if not engine.alive():
        start(engine)
    pids = engines.family(engine)
    assert len(pids) >= 4  # guard, API server, EngineCore, Worker
    os.kill(victim(engine), signal.SIGKILL)
    assert eventually(lambda: all_gone(pids) and not engine.alive())
