"""Adapters of strangers for the demo model, made small: sound ones, and each kind that an engine cannot serve."""

import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HIDDEN, INNER, KEYS, VOCABULARY, LAYERS = 576, 1536, 192, 49152, 30  # of SmolLM2-135M
PREFIX = "base_model.model."
WIDTHS = {  # module -> (in, out)
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, KEYS), "self_attn.v_proj": (HIDDEN, KEYS),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (HIDDEN, INNER), "mlp.up_proj": (HIDDEN, INNER),
    "mlp.down_proj": (INNER, HIDDEN),
}  # fmt: skip
ALL_LINEAR = tuple(WIDTHS)
UNSLOTH_TARGETS = (
    "(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:q_proj).*?)"
    "|(?:\\bmodel\\.layers\\.[\\d]{1,}\\.(?:self_attn|attention|attn|mlp)\\.(?:(?:q_proj)))"
)
TRAINED_ON = {
    "base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama",
    "unsloth_fixed": True,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 64, "lora_dropout": 0.05, "bias": "none",
    "target_modules": ["q_proj"], "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "inference_mode": True, "init_lora_weights": True, "modules_to_save": None, "use_rslora": False,
}  # fmt: skip

Shapes = dict[str, tuple[int, ...]]
Content = Callable[[str, int], bytes]
"""A tensor's name and the number of its values -> its bytes."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """An adapter of the corpus."""

    name: str
    files: Mapping[str, bytes]
    refusal: str = ""
    """Words of the refusal, which name a file, a key or a module; empty: it is served."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """What else its repository has, which is left there."""


@dataclass(slots=True)
class Made:
    """An adapter while it is made."""

    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    shapes: Shapes = field(default_factory=dict)
    dtype: str = "BF16"
    content: Content | None = None

    def files(self) -> dict[str, bytes]:
        return {
            "adapter_config.json": json.dumps(self.config).encode(),
            "adapter_model.safetensors": weights(self.shapes or pairs(), self.dtype, self.content or noise),
        }


def pairs(
    modules: Sequence[str] = ("self_attn.q_proj",), rank: int = 8, layers: Sequence[int] = range(8),
    prefix: str = f"{PREFIX}model.layers.",
) -> Shapes:  # fmt: skip
    """A and B of each module in each layer."""
    shapes: Shapes = {}
    for layer in layers:
        for module in modules:
            wide, high = WIDTHS[module]
            shapes[f"{prefix}{layer}.{module}.lora_A.weight"] = (rank, wide)
            shapes[f"{prefix}{layer}.{module}.lora_B.weight"] = (high, rank)
    return shapes


def weights(shapes: Mapping[str, Sequence[int]], dtype: str, content: Content) -> bytes:
    """A safetensors file."""
    size = {"BF16": 2, "F16": 2, "F32": 4, "I8": 1}[dtype]
    header, blobs, end = {}, [], 0
    for name, shape in shapes.items():
        count = 1
        for length in shape:
            count *= length
        blobs.append(content(name, count * size))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + count * size]}
        end += count * size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"".join(blobs)


def _bfloat16(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack("<f", value)[2:] for value in values)


_random = random.Random(7)  # the same adapters each time
NOISE = _bfloat16([_random.uniform(-0.06, 0.06) for _ in range(4093)])  # a prime: rows differ
NOISE_F16 = struct.pack("<4093e", *(_random.uniform(-0.06, 0.06) for _ in range(4093)))
NOISE_F32 = struct.pack("<4093f", *(_random.uniform(-0.06, 0.06) for _ in range(4093)))


def _filled(pattern: bytes, size: int) -> bytes:
    return (pattern * (size // len(pattern) + 1))[:size]


def noise(_name: str, size: int) -> bytes:
    return _filled(NOISE, size)


def noise_f32(_name: str, size: int) -> bytes:
    return _filled(NOISE_F32, size)


def noise_f16(_name: str, size: int) -> bytes:
    return _filled(NOISE_F16, size)


def zero_b(name: str, size: int) -> bytes:
    return bytes(size) if "lora_B" in name else noise(name, size)


def with_value(value: float) -> Content:
    def content(name: str, size: int) -> bytes:
        return _bfloat16([value]) + noise(name, size - 2)

    return content


def made(*, dtype: str = "BF16", content: Content | None = None, shapes: Shapes | None = None, **config: Any) -> Made:
    return Made({**CONFIG, **config}, shapes or {}, dtype, content)


def corpus() -> Iterator[Stranger]:
    """All of it; the ones that are served first, in the order of their ranks."""
    yield from _served()
    yield from _unserved_features()
    yield from _wrong_tensors()
    yield from _wrong_files()


def _served() -> Iterator[Stranger]:
    def good(name: str, adapter: Made) -> Stranger:
        return Stranger(name, adapter.files())

    yield good("good-r4", made(r=4, lora_alpha=32, shapes=pairs(rank=4)))
    yield good("good-r8", made())
    yield good("good-f32", made(dtype="F32", content=noise_f32))
    yield good("good-without-prefix", made(shapes=pairs(prefix="model.layers.")))
    yield good("good-one-layer", made(lora_alpha=512, layers_to_transform=[3], shapes=pairs(layers=[3])))
    yield good("good-excluded", made(exclude_modules=["lm_head"], lora_dropout=0.3))
    yield good("good-eva", made(init_lora_weights="eva", eva_config={"rho": 2.0}))
    yield good("good-fan-in-fan-out", made(fan_in_fan_out=True))
    yield good("good-gaussian", made(init_lora_weights="gaussian"))
    yield good("good-pattern-below", made(rank_pattern={"layers.0.self_attn.q_proj": 4}, shapes=_pattern(4)))
    yield good("good-alpha-pattern", made(alpha_pattern={"layers.0.self_attn.q_proj": 512}))
    yield good("good-f16", made(dtype="F16", content=noise_f16))
    yield good("good-wrapped-twice", made(shapes=pairs(prefix=f"{PREFIX * 2}model.layers.")))
    yield good("good-lm-head", made(target_modules=["lm_head"], lora_alpha=512, shapes=_head()))
    yield good("good-of-unsloth", made(task_type=None, auto_mapping=TRAINED_ON, target_modules=UNSLOTH_TARGETS))
    yield good("good-of-ms-swift", made(lora_dtype="bfloat16", lorap_lr_ratio=16.0, lorap_emb_lr=1e-6))
    yield good("good-of-old-peft", _without("exclude_modules", "use_rslora", enable_lora=None, merge_weights=False))
    yield good("good-nulls", made(rank_pattern=None, alpha_pattern=None, use_rslora=None, layers_to_transform=None))
    own = {"chat_template.jinja": b"{{ messages[0].content }}", "special_tokens_map.json": b"{}"}
    yield Stranger("good-with-its-own-template", {**made().files(), **own})
    yield Stranger("good-with-a-trainers-folder", made().files(), beside=TRAINERS_FOLDER)
    yield good("good-r16-rslora", made(r=16, use_rslora=True, shapes=pairs(rank=16)))
    yield good("good-all-linear", made(target_modules="all-linear", shapes=pairs(ALL_LINEAR, layers=range(4))))
    yield good("good-embedding", made(target_modules=["embed_tokens"], lora_alpha=512, shapes=_embedding()))
    yield good("good-r64", made(r=64, shapes=pairs(rank=64)))
    yield good("good-pattern-above", made(rank_pattern={"layers.0.self_attn.q_proj": 16}, shapes=_pattern(16)))


def _without(*keys: str, **config: Any) -> Made:
    adapter = made(**config)
    adapter.config = {key: value for key, value in adapter.config.items() if key not in keys}
    return adapter


def _head() -> Shapes:
    name = f"{PREFIX}lm_head.lora_"
    return {name + "A.weight": (8, HIDDEN), name + "B.weight": (VOCABULARY, 8)}


def _pattern(rank: int) -> Shapes:
    return pairs(layers=[0], rank=rank) | pairs(layers=range(1, 8))


def _embedding(vocabulary: int = VOCABULARY) -> Shapes:
    name = f"{PREFIX}model.embed_tokens.lora_embedding_"
    return {name + "A": (8, vocabulary), name + "B": (HIDDEN, 8)}


def _unserved_features() -> Iterator[Stranger]:
    def bad(name: str, refusal: str, **config: Any) -> Stranger:
        return Stranger(name, made(**config).files(), refusal)

    yield bad("bias-all", "bias", bias="all")
    yield bad("bias-lora-only", "bias", bias="lora_only")
    yield bad("lora-bias", "lora_bias", lora_bias=True)
    yield bad("pissa", "init_lora_weights", init_lora_weights="pissa")
    yield bad("pissa-niter", "init_lora_weights", init_lora_weights="pissa_niter_4")
    yield bad("olora", "init_lora_weights", init_lora_weights="olora")
    yield bad("corda", "init_lora_weights", init_lora_weights="corda")
    yield bad("loftq", "init_lora_weights", init_lora_weights="loftq")
    yield bad("alora", "alora_invocation_tokens", alora_invocation_tokens=[1])
    yield bad("replicated-layers", "layer_replication", layer_replication=[[0, 20], [10, 30]])
    yield bad("dora", "use_dora", use_dora=True)
    yield bad("qalora", "use_qalora", use_qalora=True)
    yield bad("bdlora", "use_bdlora", use_bdlora={"nblocks": 4})
    yield bad("arrow", "arrow_config", arrow_config={"top_k": 3})
    yield bad("saved-modules", "modules_to_save", modules_to_save=["lm_head"])
    yield bad("new-tokens", "trainable_token_indices", trainable_token_indices=[3, 4])
    yield bad("unknown-key", "hyper_rank", hyper_rank=3)
    yield bad("expert-parameters", "target_parameters", target_parameters=["mlp.experts.gate_up_proj"])
    yield bad("huge-pattern", "rank_pattern", rank_pattern={"layers.0.self_attn.q_proj": 513})
    yield bad("huge-rank", "r must be", r=4096)
    yield bad("no-alpha", "lora_alpha", lora_alpha=None)
    yield bad("text-rank", "r must be", r="8")
    yield bad("another-method", "peft_type", peft_type="LOHA")
    yield bad("adaptive-ranks", "peft_type", peft_type="ADALORA", target_r=8, init_r=12)
    yield bad("classifier", "modules_to_save", task_type="SEQ_CLS", modules_to_save=["classifier", "score"])
    yield bad("code-of-its-own", "auto_mapping", auto_mapping={"parent_library": "modeling_mine"})
    yield bad("null-bias", "bias", bias=None)
    yield bad("rank-of-a-fraction", "r must be", r=8.0)
    yield bad("no-targets", "target_modules", target_modules=None)


def _wrong_tensors() -> Iterator[Stranger]:
    def bad(name: str, refusal: str, shapes: Shapes | None = None, **changes: Any) -> Stranger:
        return Stranger(name, made(shapes=shapes, **changes).files(), refusal)

    half = {name: shape for name, shape in pairs().items() if "layers.0" not in name or "lora_A" in name}
    other: Shapes = {name: (8, 64) if "lora_A" in name else (64, 8) for name in pairs()}
    deep = {name.replace("layers.", "decoder.layers."): shape for name, shape in pairs().items()}
    default = {name.replace(".weight", ".default.weight"): shape for name, shape in pairs().items()}
    yield bad("wrong-prefix", "base_model.model.model.layers", pairs(prefix=f"{PREFIX}layers."))
    yield bad("doubled-prefix", "model.model.layers", pairs(prefix=f"{PREFIX}model.model.layers."))
    yield bad("another-architecture", "decoder.layers", deep)
    yield bad("saved-with-adapters-name", "lora_A.default.weight", default)
    yield bad("partly-fitting", "layers.30", pairs() | pairs(layers=[30, 31]))
    yield bad("unknown-module", "c_attn", {n.replace("q_proj", "c_attn"): s for n, s in pairs().items()})
    for module in ("mlp.experts.0.gate_proj", "self_attn.qkv_proj", "_checkpoint_wrapped_module.self_attn.q_proj"):
        shapes = {name.replace("self_attn.q_proj", module): shape for name, shape in pairs().items()}
        yield bad(f"module-{module.partition('.')[0].strip('_')}-{module.rpartition('.')[2]}", module, shapes)
    yield bad("unembedding", "unembed_tokens", pairs() | {n.replace("lm_head", "model.unembed_tokens"): s
                                                          for n, s in _head().items()})  # fmt: skip
    yield bad(
        "of-a-model-that-sees", "base_model.model.model.layers", pairs(prefix=f"{PREFIX}model.language_model.layers.")
    )
    yield bad("compiled", "base_model.model.model.layers", pairs(prefix=f"{PREFIX}_orig_mod.model.layers."))
    yield bad(
        "embeddings-of-its-own", "embed_tokens.weight", pairs() | {f"{PREFIX}model.embed_tokens.weight": (264, 576)}
    )
    yield bad("tokens-of-its-own", "embed_tokens.base_layer.weight",
              pairs() | {f"{PREFIX}model.embed_tokens.base_layer.weight": (264, 576)})  # fmt: skip
    yield bad("magnitudes", "lora_magnitude_vector",
              pairs() | {f"{PREFIX}model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight": (576,)})  # fmt: skip
    yield bad(
        "lower-case", "lora_a.weight", {name.replace("lora_A", "lora_a"): shape for name, shape in pairs().items()}
    )
    yield bad("norm-module", "norm", {f"{PREFIX}model.norm.lora_A.weight": (8, 576),
                                      f"{PREFIX}model.norm.lora_B.weight": (576, 8)})  # fmt: skip
    yield bad("a-without-b", "lora_B", half)
    yield bad("zero-b", "zero", content=zero_b)
    yield bad("not-a-number", "NaN", content=with_value(float("nan")))
    yield bad("infinite", "infinite", content=with_value(float("inf")))
    yield bad("overflowing", "changes weights by", lora_alpha=10**9)
    yield bad("whole-numbers", "I8", dtype="I8")
    yield bad("wrong-base", "another model", other)
    yield bad("rank-differs", "rank", pairs(rank=16))
    yield bad("pattern-differs", "rank", rank_pattern={"layers.0.self_attn.q_proj": 16})
    yield bad("wrong-vocabulary", "embed_tokens", _embedding(32000), target_modules=["embed_tokens"])
    yield bad("bias-tensors", "q_proj.bias", pairs() | {f"{PREFIX}model.layers.0.self_attn.q_proj.bias": (576,)})


def _wrong_files() -> Iterator[Stranger]:
    good = made().files()
    config, content = good["adapter_config.json"], good["adapter_model.safetensors"]
    name = "adapter_model.safetensors"
    yield Stranger("cut", {**good, name: content[:-1000]}, "cut off")
    yield Stranger("cut-header", {**good, name: content[:100]}, "cut off")
    yield Stranger("empty", {**good, name: b""}, "too short")
    yield Stranger("not-safetensors", {**good, name: b"PK\x03\x04" * 4000}, "no safetensors file")
    yield Stranger("no-weights", {"adapter_config.json": config}, "safetensors")
    yield Stranger("pickle", {"adapter_config.json": config, "adapter_model.bin": b"\x80\x04."}, "adapter_model.bin")
    yield Stranger("twice", {**good, "adapter_config.json": config[:-1] + b', "r": 8}'}, "occurs twice")
    yield Stranger("no-json", {**good, "adapter_config.json": b"{"}, "not valid JSON")
    yield Stranger("marked", {**good, "adapter_config.json": b"\xef\xbb\xbf" + config}, "byte order mark")
    yield Stranger("two-byte-letters", {**good, "adapter_config.json": config.decode().encode("utf-16")}, "byte order")
    shards = {f"adapter_model-{number:05}-of-00002.safetensors": content for number in (1, 2)}
    yield Stranger("in-shards", {"adapter_config.json": config, **shards}, f"{name}, are missing")
    mlx = {"fine_tune_type": "lora", "num_layers": 8, "lora_parameters": {"rank": 8, "scale": 20.0}}
    yield Stranger(
        "of-mlx", {"adapter_config.json": json.dumps(mlx).encode(), "adapters.safetensors": content}, "peft_type"
    )
    yield Stranger("of-llama-cpp", {"adapter_config.json": config, "adapter.gguf": b"GGUF"}, "adapter.gguf")
    prompt = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 8}
    prompts = weights({"prompt_embeddings": (8, HIDDEN)}, "BF16", noise)
    yield Stranger("of-prompts", {"adapter_config.json": json.dumps(prompt).encode(), name: prompts}, "peft_type")
    yield Stranger("other-name", {"adapter_config.json": config, "model.safetensors": content}, name)


TRAINERS_FOLDER = {
    "README.md": b"---\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n---\n", ".gitattributes": b"",
    "adapter_model.bin": b"\x80\x04.", "training_args.bin": b"\x80\x04.", "optimizer.pt": b"\x80\x04.",
    "runs/events.out.tfevents.1": b"", "checkpoint-5/adapter_model.safetensors": b"cut",
    "checkpoint-5/adapter_config.json": b"{", "checkpoint-5/rng_state.pth": b"\x80\x04.",
    "merged/model.safetensors": b"",
}  # fmt: skip


def write(stranger: Stranger, parent: Path) -> Path:
    """Its folder."""
    folder = parent / stranger.name
    folder.mkdir(parents=True)
    for name, content in stranger.files.items():
        (folder / name).write_bytes(content)
    return folder
