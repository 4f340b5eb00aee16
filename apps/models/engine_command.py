"""How vLLM's OpenAI server is started: a specification in, a command line and an environment out, nothing else.

Flags and variables are those of vLLM 0.32 and 0.33.
"""

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CPU = "cpu"

# What a model's process may know of our environment: no database, broker or secret is among it. The names in
# ENGINE_PASS_ENV (patterns, with commas between them) are added.
PASSED = (
    "PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "XDG_*", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "CUDA*", "NVIDIA_*", "NCCL_*", "GLOO_*", "OMP_*", "KMP_*", "MKL_*", "TORCH*", "TRITON_*", "VLLM_*", "HF_HOME",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: the name that requests ask for, and a folder in PEFT's layout."""

    name: str
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """One engine: which weights, on which device, within which limits."""

    python: Path
    """The interpreter that has vLLM."""
    model: Path
    """A folder in Hugging Face's layout, with safetensors."""
    served_name: str
    """What requests call the model."""
    runner: Literal["generate", "pooling"]
    """Text, or embeddings."""
    socket: Path
    """Where the engine listens; the path may have 107 bytes."""
    log: Path
    """All that the engine prints is appended here."""
    cwd: Path
    """The working directory of the engine."""
    device: str
    """"cpu", or the value of CUDA_VISIBLE_DEVICES: "0", or "0,1" for two GPUs together."""
    max_num_seqs: int
    """Requests computed at once; more wait inside the engine."""
    max_model_len: int | None = None
    """Context in tokens, prompt and answer; None takes the model's own."""
    dtype: str = "auto"
    """Of the weights, on a GPU. A CPU always computes in bfloat16."""
    gpu_memory_utilization: float = 0.9
    """The share of a GPU's memory that is used."""
    kv_cache_gib: int = 2
    """Memory for the KV cache on a CPU; a GPU's is what its share leaves."""
    tensor_parallel: int = 1
    """GPUs that share the model's layers."""
    adapters: tuple[Adapter, ...] = ()
    """Loaded at the start. An engine without any is started without LoRA, which costs speed, and takes none later."""
    max_loras: int = 1
    """Adapters that one step of the engine can mix."""
    max_lora_rank: int = 64
    """The largest rank among the adapters: 8, 16, 32, 64, 128, 256, 320 or 512."""


def command(spec: EngineSpec) -> list[str]:
    """The arguments of the process. Pure."""
    arguments = [
        str(spec.python), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(spec.model),
        "--served-model-name", spec.served_name,
        "--runner", spec.runner,
        "--load-format", "safetensors",  # pickled weights can run code
        "--uds", str(spec.socket),
        "--max-num-seqs", str(spec.max_num_seqs),
        "--scheduling-policy", "priority",
        "--enable-prompt-tokens-details",
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if spec.max_model_len:
        arguments += ["--max-model-len", str(spec.max_model_len)]
    if spec.runner == "generate":
        arguments += ["--enable-prefix-caching"]
    if spec.adapters:
        arguments += _lora_arguments(spec)
    return arguments + (_cpu_arguments() if spec.device == CPU else _gpu_arguments(spec))


def environment(spec: EngineSpec, base: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the process, with what it may know of `base`. Pure."""
    passed = public(base)
    passed.pop("VLLM_API_KEY", None)  # the engine would ask us for it; only we can reach its socket
    switches = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_RPC_BASE_PATH": str(spec.socket.parent),  # its sockets go away with the slot's folder
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        **({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if spec.adapters else {}),
    }
    if spec.device == CPU:
        device = {"CUDA_VISIBLE_DEVICES": "", "VLLM_CPU_KVCACHE_SPACE": str(spec.kv_cache_gib)}
    else:
        device = {"CUDA_VISIBLE_DEVICES": spec.device, "VLLM_SERVER_DEV_MODE": "1"}  # dev mode has the sleep routes
    return passed | switches | device


def public(base: Mapping[str, str]) -> dict[str, str]:
    """What a process that works on models may know of the environment `base`. Pure."""
    patterns = [*PASSED, *base.get("ENGINE_PASS_ENV", "").split(",")]
    return {name: base[name] for name in base if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


def _lora_arguments(spec: EngineSpec) -> list[str]:
    modules = [json.dumps({"name": adapter.name, "path": str(adapter.path)}) for adapter in spec.adapters]
    return [
        "--enable-lora",
        "--max-loras", str(spec.max_loras),
        "--max-cpu-loras", str(max(spec.max_loras, len(spec.adapters))),
        "--max-lora-rank", str(spec.max_lora_rank),
        "--lora-modules", *modules,
    ]  # fmt: skip


def _cpu_arguments() -> list[str]:
    """Compiled, vLLM 0.32 gives wrong text on a CPU, and takes three times as long to start."""
    return ["--enforce-eager", "--dtype", "bfloat16"]


def _gpu_arguments(spec: EngineSpec) -> list[str]:
    return [
        "--dtype", spec.dtype,
        "--gpu-memory-utilization", str(spec.gpu_memory_utilization),
        "--tensor-parallel-size", str(spec.tensor_parallel),
        "--enable-sleep-mode",
    ]  # fmt: skip
