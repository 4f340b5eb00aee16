from pathlib import Path

import pytest

from apps.models.engines.command import EngineSpec, command, environment
from apps.models.engines.settings import EngineSettings

SECRETS = {
    "DATABASE_URL": "postgres://x",
    "REDIS_URL": "redis://x",
    "SECRET_KEY": "x",
    "HF_TOKEN": "x",
    "VLLM_API_KEY": "x",
}
MACHINE = {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "CUDA_HOME": "/cuda", "VLLM_LOGGING_LEVEL": "DEBUG"}


def make_spec(**changes: object) -> EngineSpec:
    values: dict[str, object] = {
        "python": Path("/venv/bin/python"), "model": Path("/models/smol"), "served_name": "smol",
        "runner": "generate", "socket": Path("/run/e.sock"), "log": Path("/log/e.log"), "cwd": Path("/repo"),
        "device": "cpu", "max_num_seqs": 64,
    }  # fmt: skip
    return EngineSpec(**(values | changes))  # type: ignore[arg-type]


def has(arguments: list[str], *expected: str) -> bool:
    """Whether `expected` stand next to each other in `arguments`."""
    size = len(expected)
    return any(arguments[at : at + size] == list(expected) for at in range(len(arguments)))


def test_it_works_on_a_cpu() -> None:
    arguments = command(make_spec(settings=EngineSettings(max_model_len=2048)))
    assert arguments[:3] == ["/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert has(arguments, "--enforce-eager", "--dtype", "bfloat16")  # compiled, the text is wrong
    assert has(arguments, "--uds", "/run/e.sock")
    assert has(arguments, "--scheduling-policy", "priority")
    assert has(arguments, "--load-format", "safetensors")
    assert has(arguments, "--max-model-len", "2048")
    assert "--enable-prefix-caching" in arguments
    assert "--enable-sleep-mode" not in arguments


def test_one_thread_computes_in_the_engines_core() -> None:
    small, large = make_spec(cpu_cores=2), make_spec(cpu_cores=3)
    assert has(command(small), "--distributed-executor-backend", "uni")
    assert environment(small, {})["OMP_NUM_THREADS"] == "1"
    assert "--distributed-executor-backend" not in command(large)  # there vLLM pins a thread to each core
    assert "OMP_NUM_THREADS" not in environment(large, {})


def test_it_works_on_two_gpus() -> None:
    arguments = command(make_spec(device="0,1", settings=EngineSettings(dtype="float16", gpu_memory_utilization=0.8)))
    assert has(arguments, "--tensor-parallel-size", "2")
    assert has(arguments, "--gpu-memory-utilization", "0.8")
    assert has(arguments, "--dtype", "float16")
    assert "--enable-sleep-mode" in arguments
    assert "--enforce-eager" not in arguments


def test_it_works_with_every_setting() -> None:
    chosen = EngineSettings(quantization="fp8", kv_cache_dtype="fp8", pipeline_parallel=2, data_parallel=2)
    arguments = command(make_spec(device="0,1,2,3,4,5,6,7", settings=chosen))
    assert has(arguments, "--quantization", "fp8", "--kv-cache-dtype", "fp8")
    assert has(arguments, "--tensor-parallel-size", "2", "--pipeline-parallel-size", "2", "--data-parallel-size", "2")
    assert has(command(make_spec(settings=EngineSettings(dtype="float32"))), "--dtype", "float32")


def test_it_leaves_to_vllm_what_nobody_set() -> None:
    assert not {"--max-model-len", "--quantization", "--kv-cache-dtype"} & set(command(make_spec()))


def test_it_switches_lora_on_where_there_is_room_for_adapters() -> None:
    assert "--enable-lora" not in command(make_spec())
    spec = make_spec(max_loras=2, max_lora_rank=16)
    assert has(command(spec), "--enable-lora", "--max-loras", "2", "--max-cpu-loras", "2", "--max-lora-rank", "16")
    assert "--lora-modules" not in command(spec), "a bad one would end it"
    assert has(command(spec), "-m", "apps.models.engines.cpu_server"), "vLLM's kernels mix adapters up there"
    assert has(command(make_spec(device="0", max_loras=2)), "-m", "vllm.entrypoints.openai.api_server")
    assert environment(spec, {})["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


def test_it_leaves_prefixes_uncached_for_embeddings() -> None:
    arguments = command(make_spec(runner="pooling"))
    assert has(arguments, "--runner", "pooling")
    assert "--enable-prefix-caching" not in arguments


@pytest.mark.parametrize("device", ["cpu", "0"])
def test_it_rejects_our_secrets(device: str) -> None:
    passed = environment(make_spec(device=device), SECRETS | MACHINE)
    assert not passed.keys() & SECRETS.keys()
    assert passed.items() >= MACHINE.items()
    assert passed["HF_HUB_OFFLINE"] == "1"


def test_it_shows_the_engine_its_device_only() -> None:
    cpu = environment(make_spec(kv_cache_gib=4), {"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert (cpu["CUDA_VISIBLE_DEVICES"], cpu["VLLM_CPU_KVCACHE_SPACE"]) == ("", "4")
    assert "VLLM_SERVER_DEV_MODE" not in cpu
    gpu = environment(make_spec(device="2"), {"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert (gpu["CUDA_VISIBLE_DEVICES"], gpu["VLLM_SERVER_DEV_MODE"]) == ("2", "1")


def test_it_passes_what_the_operator_names() -> None:
    base = {"ENGINE_PASS_ENV": "MY_*,OTHER", "MY_ONE": "1", "OTHER": "2", "ANOTHER": "3"}
    passed = environment(make_spec(), base)
    assert (passed["MY_ONE"], passed["OTHER"]) == ("1", "2")
    assert "ANOTHER" not in passed
