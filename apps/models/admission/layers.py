"""Whether the tensors that an engine will load are those of the model that config.json describes.

Every architecture: each of the layers is there. Those that are built like Llama: each layer has the same tensors, and
they have the sizes that the configuration gives. What is not known here is left for the engine to judge.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from apps.models.admission.adapter import module_widths
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import Tensor

LAYER = re.compile(r"(.*?)\b(layers|h|blocks|layer)\.(\d+)\.(.+)")
OTHER_TOWERS = re.compile(r"vision|visual|audio|speech|image|mtp|draft|encoder", re.IGNORECASE)
FLOATS = ("F16", "BF16", "F32")
MAX_LAYERS = 10_000
PLAIN = frozenset({
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GemmaForCausalLM",
    "Gemma2ForCausalLM", "Phi3ForCausalLM", "Olmo2ForCausalLM", "GraniteForCausalLM",
})  # fmt: skip
UNTIED = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})  # unless said
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
BUFFERS = ("rotary_emb", "masked_bias", "attn.bias")  # that old versions saved along

Layers = dict[int, set[str]]
"""Number -> what stands behind it in the names of its tensors."""


def check_layers(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """Raises `Refused`, with the name of a tensor, when the weights are not those of `config` (config.json)."""
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    count = text.get("num_hidden_layers") or text.get("n_layer")
    if type(count) is not int or not 0 < count <= MAX_LAYERS or "block_configs" in text:  # layers that may be empty
        return
    towers = _towers(tensors)
    covered = [prefix for prefix, layers in towers.items() if layers.keys() >= set(range(count))]
    candidates = [prefix for prefix in towers if not OTHER_TOWERS.search(prefix)]
    if not covered and candidates:
        prefix = max(candidates, key=lambda one: len(towers[one]))
        lacking = min(set(range(count)) - towers[prefix].keys())
        raise Refused(f"It says that there are {count} layers, and no file holds {prefix}{lacking}: {CURE}")
    if "model.layers." in covered and _is_plain(config):
        _check_ends(config, {tensor.name for tensor in tensors})
        if not _is_quantized(config, tensors):
            _check_alike(towers["model.layers."], count)
            _check_sizes(config, tensors)


CURE = "a file of the weights is missing, or they are another model's. Fetch the model again."


def _is_plain(config: Mapping[str, Any]) -> bool:
    named = config.get("architectures")
    return isinstance(named, list) and len(named) == 1 and named[0] in PLAIN


def _is_quantized(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> bool:
    """Then layers may differ, and what is stored has other sizes."""
    return bool(config.get("quantization_config")) or any(tensor.dtype not in FLOATS for tensor in tensors)


def _towers(tensors: Sequence[Tensor]) -> dict[str, Layers]:
    """By what stands before the number: a model that sees has a second tower of layers."""
    found: dict[str, Layers] = {}
    for tensor in tensors:
        if match := LAYER.fullmatch(tensor.name):
            prefix, kind, number, rest = match.groups()
            found.setdefault(f"{prefix}{kind}.", {}).setdefault(int(number), set()).add(rest)
    return found


def _check_alike(layers: Layers, count: int) -> None:
    if (more := max(layers)) >= count:
        raise Refused(f"It says that there are {count} layers, and the weights hold model.layers.{more}: {CURE}")
    every = {rest for layer in layers.values() for rest in layer if not any(part in rest for part in BUFFERS)}
    for number in range(count):
        if lacking := sorted(every - layers[number]):
            raise Refused(f"The weights lack model.layers.{number}.{lacking[0]}, which other layers have: {CURE}")


def _check_ends(config: Mapping[str, Any], names: set[str]) -> None:
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        if name not in names and not any(other.startswith(name.removesuffix("weight")) for other in names):
            raise Refused(f"The weights lack {name}: {CURE}")
    tied = config.get("tie_word_embeddings", config["architectures"][0] not in UNTIED)
    if not tied and not any(name.startswith("lm_head.") for name in names):
        raise Refused(
            "The weights lack lm_head.weight, and tie_word_embeddings is not set: set it to true if the model uses its "
            "embeddings there, or fetch the model again."
        )


def _check_sizes(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """Matrices are stored as [out, in]."""
    hidden, vocabulary = config.get("hidden_size"), config.get("vocab_size")
    attention = "num_key_value_heads" in config and ("head_dim" in config or config["architectures"][0] in UNTIED)
    known: dict[str, list[Any]] = {module: [out, width] for module, (width, out) in module_widths(config).items()}
    if not attention:  # a size that is left out has another default in every architecture
        known = {module: shape for module, shape in known.items() if module not in ATTENTION}
    known |= {"embed_tokens": [vocabulary, hidden], "lm_head": [vocabulary, hidden]}
    for tensor in tensors:
        module = tensor.name.split(".")[-2] if tensor.name.endswith(".weight") and "." in tensor.name else ""
        if len(tensor.shape) != 2 or module not in known:
            continue
        if (wanted := known[module]) != list(tensor.shape) and None not in wanted:
            raise Refused(
                f"By its sizes {tensor.name} would be {_by(wanted)}, and the file holds {_by(tensor.shape)}: the "
                "weights are another model's, or a size here is wrong."
            )


def _by(shape: Sequence[Any]) -> str:
    return " by ".join(map(str, shape))
