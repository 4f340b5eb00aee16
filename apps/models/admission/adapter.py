"""A LoRA adapter's files (PEFT's layout), and whether they fit the model that it is for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.models.admission.lora_config import read_lora_config
from apps.models.admission.lora_tensors import (
    EXPERTS,
    Pair,
    Shape,
    check_kinds,
    check_modules,
    check_ranks,
    modules_of,
    pairs_of,
)
from apps.models.admission.lora_values import check_values
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import Tensor

WEIGHTS = "adapter_model.safetensors"


def read_adapter_config(path: Path) -> dict[str, Any]:
    """Raises `Refused` for what is not a LoRA adapter that vLLM serves."""
    return read_lora_config(path)


def check_weights(path: Path, tensors: Sequence[Tensor], config: Mapping[str, Any]) -> dict[str, Pair]:
    """The pairs of its tensors, by module. Raises `Refused`, with a module's name, for what is wrong in themselves."""
    pairs = pairs_of(tensors)
    check_kinds(pairs)
    check_ranks(pairs, config)
    check_values(path, pairs, config)
    return pairs


def check_base(pairs: Mapping[str, Pair], adapter: Mapping[str, Any], base: Path, tensors: Sequence[Tensor]) -> None:
    """Raises `Refused` where the adapter was made for another model than that in `base`, whose tensors are given.

    `adapter` is its configuration.
    """
    config = json.loads((base / "config.json").read_bytes())
    text = config.get("text_config") or config
    widths = module_widths(text)
    modules: dict[str, Shape] = {
        name: shape or _shape_of(widths.get(name.rpartition(".")[2])) for name, shape in modules_of(tensors).items()
    }
    if adapter.get("target_parameters") and not any(EXPERTS in module for module in modules):
        raise Refused("target_parameters: the base model has no experts, and vLLM adapts no other parameters.")
    if modules:
        check_modules(pairs, modules, config)


def _shape_of(widths: tuple[int, int] | None) -> Shape:
    """(in, out) -> (out, in), for weights that are packed."""
    return (widths[1], widths[0]) if widths else None


def module_widths(base: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Of the modules of a layer that is built like Llama's: name -> (in, out)."""
    hidden: Any = base.get("hidden_size")
    heads: Any = base.get("num_attention_heads")
    if not (_is_size(hidden) and _is_size(heads)):
        return {}
    head: Any = base.get("head_dim") or hidden // heads
    groups: Any = base.get("num_key_value_heads") or heads
    if not (_is_size(head) and _is_size(groups)):
        return {}
    queries, keys = heads * head, groups * head
    widths = {
        "q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys), "o_proj": (queries, hidden),
    }  # fmt: skip
    inner: Any = base.get("intermediate_size")
    if _is_size(inner) and not any("expert" in key for key in base):
        widths |= {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    return widths


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0
