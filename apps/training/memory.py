"""How much memory of its device a training takes, from the model's configuration and the options alone. Pure.

Weights, adapter, gradients and optimizer follow from the shapes: the optimizer is AdamW, which keeps two numbers for
each that is trained, in the precision of that one (4 bytes for an adapter, 2 for a whole model in bfloat16).
Activations are those of a decoder of Llama's kind: what each layer keeps for the way back, or with gradient
checkpointing each layer's input; and room for the layers that are worked on. The loss is computed in pieces, so it
takes no room for all logits, but on a CPU where Unsloth does not train. What a CPU needs beside was fitted to
measurements; what a GPU does is a round figure.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from apps.training.options import Options
from apps.training.spec import Method, Technique

HALF, SINGLE = 2, 4  # bytes of a number in bfloat16, and in float32
QUANTIZED = 0.55  # bytes of a weight in NF4, with its scales
MOMENTS = 2  # that AdamW keeps of each trained number
PIECE = 16 * 1024**2  # logits that the loss computes at once
PIECE_COPIES = 3  # the logits, their softmax, their gradient
WORKED_ON = 2  # layers: one, and its gradients
CPU_WORKED_ON = 10  # with gradient checkpointing: what one thread frees is not used by the one that computes again
GPU_OVERHEAD = int(1.0 * 1024**3)  # CUDA's context, workspaces, the allocator's slack
CPU_OVERHEAD = int(0.58 * 1024**3)  # Python with torch, Transformers and TRL

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes of the device, by part."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    overhead: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def as_dict(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}

    def sentence(self, memory_bytes: int) -> str:
        """Whether it fits a device with that much memory."""
        needs, has = f"{self.total / 1e9:.1f} GB", f"{memory_bytes / 1e9:.1f} GB"
        if self.total <= 0.9 * memory_bytes:
            return f"It takes about {needs} of {has}."
        if self.total <= memory_bytes:
            return f"It takes about {needs} of {has}: that is tight. A smaller batch_size or max_length makes room."
        return (
            f"It takes about {needs}, and the device has {has}: choose a smaller batch_size or max_length, "
            "gradient_checkpointing, or QLoRA."
        )


def estimate(
    config: Config, *, parameters: int, method: Method, technique: Technique, options: Options, on_cpu: bool
) -> Estimate:
    """`config` is the base model's config.json, `parameters` how many it has."""
    shape = Shape.of(config)
    trained = parameters if technique == "full" else adapter_parameters(shape, options)
    trained_bytes = HALF if technique == "full" else SINGLE
    reference = parameters * HALF if method != "sft" and technique == "full" else 0  # what it must stay close to
    return Estimate(
        weights=_weights(shape, parameters, technique) + reference,
        adapter=0 if technique == "full" else trained * SINGLE,
        gradients=trained * trained_bytes,
        optimizer=trained * trained_bytes * MOMENTS,
        activations=_activations(shape, method, technique, options, on_cpu=on_cpu)
        + _loss(shape, method, technique, options, on_cpu=on_cpu),
        overhead=CPU_OVERHEAD if on_cpu else GPU_OVERHEAD,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder's, in numbers."""

    hidden: int
    inner: int
    layers: int
    queries: int
    """Width of all heads together."""
    keys: int
    """Width of all heads of keys, which are as many values."""
    vocabulary: int
    tied: bool
    """Whether input and output share their embeddings."""

    @classmethod
    def of(cls, config: Config) -> "Shape":
        """A model that also sees or hears has its text model's configuration inside."""
        text: Config = config.get("text_config") or config
        heads = text["num_attention_heads"]
        width = text.get("head_dim") or text["hidden_size"] // heads
        return cls(
            hidden=text["hidden_size"],
            inner=text.get("intermediate_size") or 4 * text["hidden_size"],
            layers=text["num_hidden_layers"],
            queries=heads * width,
            keys=(text.get("num_key_value_heads") or heads) * width,
            vocabulary=text["vocab_size"],
            tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        )

    def ways(self) -> dict[str, tuple[int, int]]:
        """From how many numbers to how many each target goes."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }


def adapter_parameters(shape: Shape, options: Options) -> int:
    """Two matrices for each target of each layer."""
    ways = shape.ways()
    return shape.layers * options.rank * sum(sum(ways[target]) for target in options.targets)


def _weights(shape: Shape, parameters: int, technique: Technique) -> int:
    if technique != "qlora":
        return parameters * HALF
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    return embeddings * HALF + int((parameters - embeddings) * QUANTIZED)


def _activations(shape: Shape, method: Method, technique: Technique, options: Options, *, on_cpu: bool) -> int:
    tokens = options.batch_size * options.max_length * (2 if method == "dpo" else 1)
    layer = tokens * _bytes_of_token(shape, technique, options, on_cpu=on_cpu)
    if not options.gradient_checkpointing:
        return (shape.layers + WORKED_ON) * layer
    worked_on = CPU_WORKED_ON if on_cpu else WORKED_ON
    return shape.layers * tokens * shape.hidden * HALF + worked_on * layer


def _bytes_of_token(shape: Shape, technique: Technique, options: Options, *, on_cpu: bool) -> int:
    """What a layer keeps of each token: what its two norms were given, the attention's inputs (keys and values repeated
    for every head) and output, the gate's three numbers; and what is multiplied with weights that are trained."""
    wide = SINGLE if on_cpu else HALF  # where Unsloth's kernels do not run, norms and adapters compute in float32
    kept = wide * 2 * shape.hidden + HALF * (4 * shape.queries + 3 * shape.inner)
    if technique == "full":
        return kept + HALF * (2 * shape.hidden + shape.queries + shape.inner)
    ways = shape.ways()
    return kept + sum(wide * ways[target][0] + SINGLE * options.rank for target in options.targets)


def _loss(shape: Shape, method: Method, technique: Technique, options: Options, *, on_cpu: bool) -> int:
    tokens = options.batch_size * options.max_length * (2 if method == "dpo" else 1)
    logits = tokens * shape.vocabulary
    whole = on_cpu and (method != "sft" or technique == "qlora")  # plain PyTorch's, at once
    return SINGLE * PIECE_COPIES * (logits if whole else min(logits, PIECE))
