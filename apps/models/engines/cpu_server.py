"""vLLM's API server on a CPU, with its LoRA kernels mended: `python -m apps.models.engines.cpu_server ARGUMENTS`.

Runs in the engine's interpreter, and imports nothing of ours. In vLLM 0.32 the kernels for CPUs take the index -1,
which marks tokens of the base model, for that of the last slot. Where an adapter is loaded there, requests for the base
model that are computed beside an adapter's are answered as by that adapter. Versions without these kernels stay as they
are.
"""

import functools
import importlib
import runpy
from collections.abc import Callable
from typing import Any

SERVER = "vllm.entrypoints.openai.api_server"
MODULES = ("vllm.lora.ops.torch_ops.lora_ops", "vllm.lora.punica_wrapper.punica_cpu")  # the second has their names, too
KERNELS = ("bgmv_expand", "bgmv_expand_slice")  # through which all that adapters do is added up


def mend(modules: tuple[str, ...] = MODULES) -> None:
    """Replace the kernels wherever their names are bound."""
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for kernel in KERNELS:
            if hasattr(module, kernel):
                setattr(module, kernel, without_base(getattr(module, kernel)))


def without_base(kernel: Callable[..., None]) -> Callable[..., None]:
    """The kernel, which adds nothing to tokens of the base model.

    Its arguments are (inputs, weights, output, indices, …): inputs [tokens, rank], indices [tokens].
    """

    @functools.wraps(kernel)
    def mended(inputs: Any, weights: Any, output: Any, indices: Any, *more: Any, **named: Any) -> None:
        kernel(inputs.where((indices >= 0).unsqueeze(-1), 0), weights, output, indices, *more, **named)

    return mended


if __name__ in ("__main__", "__mp_main__"):  # the second: in the processes that the server spawns
    mend()

if __name__ == "__main__":
    runpy.run_module(SERVER, run_name="__main__")
