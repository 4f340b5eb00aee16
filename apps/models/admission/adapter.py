"""A LoRA adapter's files (PEFT's layout), and whether they fit the model that it is for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.models.admission.documents import read_json
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import Tensor

MAX_RANK = 512  # the largest that vLLM serves
WEIGHT = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\..*?(\w+)\.lora_([AB])\.weight$")
MODULE = re.compile(r"[\w.-]{1,200}")


def read_adapter_config(path: Path) -> dict[str, Any]:
    """Raises `Refused` for what is not a LoRA adapter that vLLM serves."""
    config = read_json(path)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Refused("It is not a LoRA adapter (peft_type LORA), and no other kind is served.")
    ranks = [config.get("r"), *_values(config.get("rank_pattern"))]
    if not all(type(rank) is int and 1 <= rank <= MAX_RANK for rank in ranks):
        raise Refused(f"Its rank r must be a number from 1 to {MAX_RANK}, not {str(config.get('r'))[:20]}.")
    if config.get("use_dora"):
        raise Refused("It is a DoRA adapter, which vLLM does not serve: merge it into its base model first.")
    if config.get("modules_to_save"):
        raise Refused("It replaces whole modules (modules_to_save), which vLLM does not serve: merge it first.")
    targets = config.get("target_modules")
    if not isinstance(targets, str) and not (
        isinstance(targets, list) and all(isinstance(name, str) and MODULE.fullmatch(name) for name in targets)
    ):
        raise Refused("Its target_modules are not a list of names.")
    return config


def check_base(tensors: Sequence[Tensor], base: Mapping[str, Any]) -> None:
    """Raises `Refused`, with the numbers, when the adapter was made for a model of other sizes.

    `base` is the base model's config.json. Modules that are not known here are left for the engine to judge.
    """
    base = base.get("text_config", base)
    layers = int(base.get("num_hidden_layers", 0))
    widths = module_widths(base)
    for tensor in tensors:
        found = WEIGHT.search(tensor.name)
        if not found:
            continue
        layer, module, side = int(found[1]), found[2], found[3]
        if layers and layer >= layers:
            raise Refused(f"It has weights for layer {layer}, and the base model has {layers} layers: wrong base.")
        if module not in widths or len(tensor.shape) != 2:
            continue
        wanted, given = widths[module]["AB".index(side)], tensor.shape[1 if side == "A" else 0]
        if wanted != given:
            raise Refused(f"Its {module} is {given} wide, the base model's {wanted}: it was trained on another model.")


def module_widths(base: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Of the modules of a layer that is built like Llama's: name -> (in, out)."""
    hidden, heads = base.get("hidden_size"), base.get("num_attention_heads")
    if not hidden or not heads:
        return {}
    head = base.get("head_dim") or hidden // heads
    queries, keys = heads * head, (base.get("num_key_value_heads") or heads) * head
    widths = {
        "q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys), "o_proj": (queries, hidden),
    }  # fmt: skip
    inner = base.get("intermediate_size")
    if inner and not any("expert" in key for key in base):
        widths |= {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    return widths


def _values(pattern: Any) -> list[Any]:
    return list(pattern.values()) if isinstance(pattern, dict) else []
