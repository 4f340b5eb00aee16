"""How vLLM's OpenAI server is started: a specification in, a command line and an environment out, nothing else.

Flags and variables are those of vLLM 0.32 and 0.33.
"""

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps.models.engines.settings import CPU, EngineSettings

DEFAULTS = EngineSettings()
COMPACT_JSON = json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})  # vLLM wants a backend with it

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
    """Requests computed at once, of batches and of people; more wait inside the engine."""
    settings: EngineSettings = DEFAULTS
    """What was set for the model."""
    generation_config: Path | None = None
    """A folder with the generation_config.json to read in place of the model's; see `stops`."""
    kv_cache_gib: int = 2
    """Memory for the KV cache on a CPU; a GPU's is what its share leaves."""
    cpu_cores: int = 1
    """Cores that an engine on a CPU may use."""
    max_loras: int = 0
    """Adapters that one step of the engine can mix. They are loaded while it runs, never at its start, which a bad one
    would end. 0: it takes none, since LoRA costs speed."""
    max_lora_rank: int = 64
    """The largest rank of an adapter: 8, 16, 32, 64, 128, 256, 320 or 512."""

    @property
    def takes_adapters(self) -> bool:
        return self.max_loras > 0

    @property
    def computes_on_one_thread(self) -> bool:
        """On a CPU, vLLM leaves one core to its server."""
        return self.device == CPU and self.cpu_cores <= 2

    @property
    def can_sleep(self) -> bool:
        """vLLM refuses sleep mode on a CPU."""
        return self.device != CPU


def command(spec: EngineSpec) -> list[str]:
    """The arguments of the process. Pure."""
    mended = spec.device == CPU and spec.takes_adapters
    arguments = [
        str(spec.python), "-m", "apps.models.engines.cpu_server" if mended else "vllm.entrypoints.openai.api_server",
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
    arguments += _chosen(spec.settings, spec.generation_config)
    if spec.runner == "generate":
        arguments += ["--enable-prefix-caching"]
        if not spec.settings.json_whitespace:
            arguments += ["--structured-outputs-config", COMPACT_JSON]
    if spec.takes_adapters:
        arguments += _lora_arguments(spec)
    return arguments + (_cpu_arguments(spec) if spec.device == CPU else _gpu_arguments(spec))


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
        "PYTHONFAULTHANDLER": "1",  # else a segmentation fault leaves no word of where
        **({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if spec.takes_adapters else {}),
    }
    if spec.device == CPU:
        one_thread = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}  # see _cpu_arguments
        device = {
            "CUDA_VISIBLE_DEVICES": "",
            "VLLM_CPU_KVCACHE_SPACE": str(spec.kv_cache_gib),
            **(one_thread if spec.computes_on_one_thread else {}),
        }
    else:
        device = {"CUDA_VISIBLE_DEVICES": spec.device, "VLLM_SERVER_DEV_MODE": "1"}  # dev mode has the sleep routes
    return passed | switches | device


def public(base: Mapping[str, str]) -> dict[str, str]:
    """What a process that works on models may know of the environment `base`. Pure."""
    patterns = [*PASSED, *base.get("ENGINE_PASS_ENV", "").split(",")]
    return {name: base[name] for name in base if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


def _chosen(settings: EngineSettings, generation_config: Path | None) -> list[str]:
    """The flags for what vLLM would otherwise choose."""
    chosen = {
        "--max-model-len": settings.max_model_len,
        "--quantization": settings.quantization,
        "--kv-cache-dtype": None if settings.kv_cache_dtype == "auto" else settings.kv_cache_dtype,
        "--tool-call-parser": _parser(settings.tool_call_parser),
        "--tool-strict-level": None if settings.tool_strict_level == "auto" else settings.tool_strict_level,
        "--reasoning-parser": _parser(settings.reasoning_parser),
        "--chat-template": settings.chat_template,
        "--generation-config": generation_config or ("vllm" if settings.ignore_generation_config else None),
    }
    switches = ["--enable-auto-tool-choice"] if _parser(settings.tool_call_parser) else []
    return [word for flag, value in chosen.items() if value is not None for word in (flag, str(value))] + switches


def _parser(name: str | None) -> str | None:
    return None if name == "none" else name


def _lora_arguments(spec: EngineSpec) -> list[str]:
    return [
        "--enable-lora",
        "--max-loras", str(spec.max_loras),
        "--max-cpu-loras", str(spec.max_loras),
        "--max-lora-rank", str(spec.max_lora_rank),
    ]  # fmt: skip


def _cpu_arguments(spec: EngineSpec) -> list[str]:
    """Compiled, vLLM 0.32 gives wrong text on a CPU, and takes three times as long to start.

    Its worker is a process of its own so that threads can be pinned to cores. One thread needs no pinning: in the
    engine's core it costs a quarter less to start, 500 MB less, and two engines do not share one core.
    """
    dtype = "bfloat16" if spec.settings.dtype == "auto" else spec.settings.dtype
    worker = ["--distributed-executor-backend", "uni"] if spec.computes_on_one_thread else []
    return ["--enforce-eager", "--dtype", dtype, *worker]


def _gpu_arguments(spec: EngineSpec) -> list[str]:
    tensor, pipeline, data = spec.settings.gpus(spec.device)
    return [
        "--dtype", spec.settings.dtype,
        "--gpu-memory-utilization", str(spec.settings.gpu_memory_utilization),
        "--tensor-parallel-size", str(tensor),
        "--pipeline-parallel-size", str(pipeline),
        "--data-parallel-size", str(data),
        "--enable-sleep-mode",
    ]  # fmt: skip
