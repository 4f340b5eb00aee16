"""Writes tiny models, good ones and bad ones, that are folders in Hugging Face's layout."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HIDDEN, LAYERS, RANK, MAX_RANK = 64, 2, 4, 512

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 32,
    "max_position_embeddings": 128, "torch_dtype": "bfloat16",
}  # fmt: skip
ADAPTER: dict[str, Any] = {
    "peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none",
    "base_model_name_or_path": "acme/tiny", "task_type": "CAUSAL_LM", "auto_mapping": None, "modules_to_save": None,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}"
)
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
WEIGHTS: dict[str, list[int]] = {"model.embed_tokens.weight": [32, HIDDEN], "lm_head.weight": [32, HIDDEN]}
MORE_WEIGHTS = {
    "model.norm.weight": [HIDDEN],
    **{f"model.layers.{layer}.self_attn.q_proj.weight": [HIDDEN, HIDDEN] for layer in range(LAYERS)},
}

Entries = Mapping[str, Mapping[str, Any]]


def entries(shapes: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Any]]:
    """A header's entries for tensors of 16 bits, one behind the other."""
    end, found = 0, {}
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        found[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return found


def safetensors(header: Entries | bytes, data: int | None = None, *, length: int | None = None) -> bytes:
    """A file's bytes. `data` and `length` lie about the tensors' bytes and the header's length where they are given."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    if data is None:
        data = max(entry["data_offsets"][1] for entry in dict(header).values()) if not isinstance(header, bytes) else 0
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data)


def write_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Bytes and texts as they are, everything else as JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))


def tiny_model(**changes: Any) -> dict[str, Any]:
    """The files of a model that is admitted; `changes` to its config.json."""
    return {
        "config.json": CONFIG | changes,
        "tokenizer_config.json": TOKENIZER,
        "tokenizer.json": {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "auto_map": 1}, "merges": []}},
        "model.safetensors": safetensors(entries(WEIGHTS | MORE_WEIGHTS)),
        "README.md": "# Tiny",
    }


def tiny_adapter(width: int = HIDDEN, **changes: Any) -> dict[str, Any]:
    """The files of a LoRA adapter for the tiny model."""
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_{}.weight"
    rank = changes.get("r", RANK) if 0 < changes.get("r", RANK) <= MAX_RANK else RANK
    shapes = {name.format("A"): [rank, width], name.format("B"): [width, rank]}
    return {
        "adapter_config.json": ADAPTER | changes,
        "adapter_model.safetensors": safetensors(entries(shapes)).replace(b"\0\0" * 8, b"\x80\x3c" * 8),
    }
