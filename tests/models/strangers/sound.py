"""A tiny model that real vLLM serves on a CPU: two layers of random weights, and a tokenizer of bytes.

    write_files(folder, sound_model())

Everything that `tests.models.strangers.folders` has is this model with one thing changed.
"""

import functools
import json
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN, LAYERS, INNER, VOCABULARY = 64, 2, 128, 264
SPECIAL = ("<|end|>", "<|begin|>")  # behind the 256 bytes

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": INNER,
    "vocab_size": VOCABULARY, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 257, "eos_token_id": 256,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOKENIZER: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, "model_max_length": 256,
    "eos_token": SPECIAL[0], "bos_token": SPECIAL[1],
}  # fmt: skip


def shapes(layers: int = LAYERS) -> dict[str, list[int]]:
    """Of all tensors, in the order in which they are saved."""
    of_a_layer = {
        "self_attn.q_proj": [64, HIDDEN], "self_attn.k_proj": [32, HIDDEN], "self_attn.v_proj": [32, HIDDEN],
        "self_attn.o_proj": [HIDDEN, 64], "mlp.gate_proj": [INNER, HIDDEN], "mlp.up_proj": [INNER, HIDDEN],
        "mlp.down_proj": [HIDDEN, INNER], "input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN],
    }  # fmt: skip
    return {
        "model.embed_tokens.weight": [VOCABULARY, HIDDEN],
        **{f"model.layers.{n}.{name}.weight": shape for n in range(layers) for name, shape in of_a_layer.items()},
        "model.norm.weight": [HIDDEN],
        "lm_head.weight": [VOCABULARY, HIDDEN],
    }


def weights(tensors: Mapping[str, Sequence[int]], dtype: str = "BF16") -> bytes:
    """A safetensors file with small random numbers."""
    size, end, header, data = {"BF16": 2, "F32": 4}[dtype], 0, {}, []
    for name, shape in tensors.items():
        count = functools.reduce(lambda product, length: product * length, shape, 1)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + count * size]}
        end += count * size
        data.append(_numbers(count, dtype))
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"".join(data)


def in_shards(count: int, tensors: Mapping[str, Sequence[int]] | None = None) -> dict[str, bytes]:
    """The weights in `count` files, named as they are saved."""
    names = list(tensors or shapes())
    parts = [names[number * len(names) // count : (number + 1) * len(names) // count] for number in range(count)]
    every = tensors or shapes()
    return {
        f"model-{number:05}-of-{count:05}.safetensors": weights({name: every[name] for name in part})
        for number, part in enumerate(parts, 1)
    }


def index(shards: Mapping[str, bytes]) -> dict[str, Any]:
    """What `model.safetensors.index.json` says of those files."""
    places = {name: shard for shard, raw in shards.items() for name in header_of(raw)}
    return {"metadata": {"total_size": sum(map(len, shards.values()))}, "weight_map": places}


def header_of(raw: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", raw[:8])
    found: dict[str, Any] = json.loads(raw[8 : 8 + length])
    return found


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: every byte is a token."""
    letters = [*_bytes_as_letters(), *SPECIAL]
    added = [
        {"id": 256 + number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for number, token in enumerate(SPECIAL)
    ]  # fmt: skip
    model = {"type": "BPE", "vocab": {letter: number for number, letter in enumerate(letters)}, "merges": []}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": split, "post_processor": None,
        "decoder": split, "model": model,
    }  # fmt: skip


def sound_model(**changes: Any) -> dict[str, Any]:
    """Path -> content, for `write_files`; `changes` to its config.json."""
    return {
        "config.json": CONFIG | changes,
        "tokenizer_config.json": TOKENIZER,
        "tokenizer.json": tokenizer(),
        "model.safetensors": weights(shapes()),
    }


def _bytes_as_letters() -> list[str]:
    """The letters that stand for the bytes in byte-level vocabularies: printable ones for themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    names = {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(others)}
    return [names[byte] for byte in range(256)]


@functools.cache
def _pattern(dtype: str) -> bytes:
    chosen = random.Random(1)
    numbers = struct.pack("<2048f", *(chosen.uniform(-0.1, 0.1) for _ in range(2048)))
    if dtype == "F32":
        return numbers
    return b"".join(numbers[at + 2 : at + 4] for at in range(0, len(numbers), 4))  # the upper half of a float


def _numbers(count: int, dtype: str) -> bytes:
    pattern = _pattern(dtype)
    size = {"BF16": 2, "F32": 4}[dtype] * count
    return (pattern * (size // len(pattern) + 1))[:size]
