"""The child process that makes one model of a base and an adapter: one order on its standard input.

    python -m apps.training.child.merge

It runs in TRAINER_PYTHON, on the CPU. Weights are added in 32 bits and saved in the base's 16. What an engine sees of
the base besides its weights (configuration, tokenizer, chat template) is copied as it is. It may be killed at any
moment, and begun again in an empty folder.
"""

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from apps.training.spec import Failed, Merged, MergeOrder

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
KEPT = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
SHARD = "4GB"
GENERATION = "generation_config.json"


class Refused(Exception):
    """The message says why, and what to do."""


def merge(order: MergeOrder) -> Merged:
    """Raises `Refused`, OSError, and what the libraries raise."""
    import torch  # noqa: PLC0415 - the server's tests read this module too
    from peft import PeftModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    base, folder = Path(order.model), Path(order.folder)
    config = json.loads((base / "config.json").read_bytes())
    dtype = getattr(torch, _type_of(config))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    tuned = PeftModel.from_pretrained(model, order.adapter)
    changed = _merge_layers(tuned, dtype)
    merged = tuned.unload().to(dtype)
    merged.save_pretrained(folder, safe_serialization=True, max_shard_size=SHARD)
    _keep_the_rest(base, folder)
    if order.generation_config is not None:
        (folder / GENERATION).write_bytes(msgspec.json.encode(order.generation_config))
    return Merged(changed=changed, tensors=len(merged.state_dict()), bytes=_sync(folder))


def _type_of(config: dict[str, Any]) -> str:
    """The base's own 16 bits; bfloat16 for one of 32. Raises `Refused`."""
    if config.get("quantization_config"):
        raise Refused("The base model is quantized: deploy the adapter itself, or train on the model in 16 bits.")
    name = str(config.get("dtype") or config.get("torch_dtype") or "")
    return name if name in ("bfloat16", "float16") else "bfloat16"


def _merge_layers(tuned: Any, dtype: Any) -> int:
    """Add every adapter layer to its weight, one after the other. How many weights differ then, in 16 bits."""
    changed = 0
    for layer in [module for module in tuned.modules() if hasattr(module, "lora_A") and hasattr(module, "merge")]:
        before = layer.get_base_layer().weight.detach().to(dtype)
        layer.merge(safe_merge=True)  # raises ValueError where the result is no number
        changed += int((before != layer.get_base_layer().weight.detach().to(dtype)).any())
    return changed


def _keep_the_rest(base: Path, folder: Path) -> None:
    """Only the weights are new."""
    for path in folder.iterdir():
        if not _is(path, WEIGHTS):
            path.unlink()
    for path in base.iterdir():
        if _is(path, KEPT) and not _is(path, WEIGHTS) and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)


def _is(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(path.match(pattern) for pattern in patterns)


def _sync(folder: Path) -> int:
    """All is on the disk, for sure. How many bytes."""
    paths = sorted(folder.iterdir())
    for path in [*paths, folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return sum(path.stat().st_size for path in paths)


def tell(news: Merged | Failed) -> None:
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(news) + b"\n")  # a bar of a library's may stand there
    sys.stdout.buffer.flush()


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=MergeOrder)
    try:
        tell(merge(order))
    except Refused as error:
        tell(Failed(code="unsupported", message=str(error)))
    except ValueError as error:
        tell(Failed(code="checkpoint", message=f"The adapter cannot be merged: {str(error).strip()[:500]}"))
    except OSError as error:
        full = error.errno == errno.ENOSPC
        message = f"{error.strerror or error}: {error.filename or order.folder}."
        tell(Failed(code="disk_full" if full else "internal", message=message))


if __name__ == "__main__":
    main()
