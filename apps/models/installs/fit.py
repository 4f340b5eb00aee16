"""Whether a model fits a device: weights, KV cache and overhead, from its configuration and headers alone.

An engine claims `gpu_memory_utilization` of a GPU; what the weights and its own needs leave of it is KV cache, which
must hold at least one request of the full context. Weights and cache follow from the architecture; the overheads are
round figures on the safe side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from apps.models.admission.safetensors import BITS, Tensor

DEFAULT_CONTEXT = 4096  # of a configuration that does not say
CACHE_BYTES = {"auto": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}  # of a number in the KV cache
GPU_OVERHEAD = int(1.1 * 2**30)  # CUDA's context, NCCL, the allocator's slack, captured graphs
CPU_OVERHEAD = int(2.2 * 2**30)  # three processes with torch in each
BATCHED_TOKENS = 8192  # that vLLM computes in one step on a GPU, at most
COMFORTABLE = 4  # full contexts at once; fewer and requests wait for each other


class Verdict(StrEnum):
    FITS = "fits"
    TIGHT = "tight"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes on each of the devices that share the model."""

    weights: int
    kv_per_token: int
    """Of a layer that sees everything; with sliding windows a long context takes less than this times its tokens."""
    kv_context: int
    """One request of the full context."""
    overhead: int
    context: int
    """Tokens."""

    @property
    def total(self) -> int:
        return self.weights + self.kv_context + self.overhead


@dataclass(frozen=True, slots=True)
class Fit:
    verdict: Verdict
    sentence: str
    estimate: Estimate
    usable: int
    """Bytes of the device that the engine may take."""

    def as_dict(self) -> dict[str, Any]:
        estimate = self.estimate
        return {
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "weights": estimate.weights,
            "kv_context": estimate.kv_context,
            "kv_per_token": estimate.kv_per_token,
            "overhead": estimate.overhead,
            "context": estimate.context,
            "usable": self.usable,
        }


def loaded_bytes(tensors: Iterable[Tensor]) -> int:
    """What the weights take once loaded: floats of 32 and 64 bits become 16, all else stays as it is stored."""
    return sum(t.parameters * (16 if t.dtype in ("F32", "F64") else BITS[t.dtype]) // 8 for t in tensors)


def estimate(
    config: Mapping[str, Any],
    weight_bytes: int,
    *,
    context: int | None = None,
    tensor_parallel: int = 1,
    kv_cache_dtype: str = "auto",
    max_num_seqs: int = 256,
    on_cpu: bool = False,
) -> Estimate:
    """`config` is the model's config.json, `weight_bytes` that of `loaded_bytes`."""
    text = config.get("text_config", config)
    tokens = context or int(text.get("max_position_embeddings") or text.get("n_positions") or DEFAULT_CONTEXT)
    layers = [_layer_bytes(text, tensor_parallel) * CACHE_BYTES.get(kv_cache_dtype, 2)] * _count(text)
    spans = _spans(text, tokens, len(layers))
    return Estimate(
        weights=weight_bytes // tensor_parallel,
        kv_per_token=sum(size for size, span in zip(layers, spans, strict=True) if span),
        kv_context=sum(size * span for size, span in zip(layers, spans, strict=True)),
        overhead=CPU_OVERHEAD if on_cpu else GPU_OVERHEAD + _activations(text, max_num_seqs, tensor_parallel),
        context=tokens,
    )


def fit(need: Estimate, *, memory_bytes: int, utilization: float = 0.9) -> Fit:
    """`memory_bytes` is that of one device; `utilization` the share of it that the engine takes."""
    usable = int(memory_bytes * utilization)
    left = usable - need.weights - need.overhead
    numbers = (
        f"Weights {_gb(need.weights)} + KV cache {_gb(need.kv_context)} for one full context of {need.context:,} tokens"
        f" + overhead {_gb(need.overhead)} = {_gb(need.total)} of {_gb(usable)} usable"
    )
    if left < need.kv_context:
        return Fit(Verdict.NO, f"{numbers}: does not fit. {_cure(need, left)}", need, usable)
    if left < COMFORTABLE * need.kv_context:
        together = left // need.kv_context
        return Fit(Verdict.TIGHT, f"{numbers}: tight, {together} full contexts at a time.", need, usable)
    return Fit(Verdict.FITS, f"{numbers}: fits.", need, usable)


def _cure(need: Estimate, left: int) -> str:
    tokens = left * need.context // need.kv_context // 256 * 256 if left > 0 and need.kv_context else 0
    if tokens >= 1024:
        return f"Set max_model_len to {tokens:,} or less, or give it more GPUs (tensor_parallel_size)."
    return "Choose a smaller or a quantized version, or give it more GPUs (tensor_parallel_size)."


def _count(text: Mapping[str, Any]) -> int:
    """Layers that keep keys and values; a model that only embeds keeps none."""
    architectures = text.get("architectures") or [""]
    if any(name.startswith(("Bert", "Roberta", "XLMRoberta", "MPNet", "Nomic")) for name in architectures):
        return 0
    return int(text.get("num_hidden_layers") or text.get("n_layer") or 0)


def _layer_bytes(text: Mapping[str, Any], tensor_parallel: int) -> int:
    """Numbers that a layer keeps per token on each device."""
    if rank := text.get("kv_lora_rank"):  # multi-head latent attention: one latent, whole on every device
        return int(rank) + int(text.get("qk_rope_head_dim", 0))
    heads = int(text.get("num_attention_heads") or text.get("n_head") or 1)
    hidden = int(text.get("hidden_size") or text.get("n_embd") or 0)
    keys = 1 if text.get("multi_query") else int(text.get("num_key_value_heads") or heads)
    head = int(text.get("head_dim") or hidden // heads)
    return 2 * max(keys // tensor_parallel, 1) * head


def _spans(text: Mapping[str, Any], tokens: int, layers: int) -> list[int]:
    """Tokens of a full context that each layer keeps."""
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    short = min(int(window), tokens) if window else tokens
    kinds = text.get("layer_types") or ["sliding_attention" if window else "full_attention"] * layers
    kept = {"full_attention": tokens, "attention": tokens, "sliding_attention": short, "chunked_attention": tokens}
    return [kept.get(kind, 0) for kind in kinds[:layers]] + [tokens] * (layers - len(kinds))


def _activations(text: Mapping[str, Any], max_num_seqs: int, tensor_parallel: int) -> int:
    """The largest step: its tokens' widest layer, and the logits of one token of each request in 32 bits."""
    hidden = int(text.get("hidden_size") or text.get("n_embd") or 0)
    inner = int(text.get("intermediate_size") or 4 * hidden) // tensor_parallel
    return BATCHED_TOKENS * (2 * inner + 4 * hidden) * 2 + max_num_seqs * int(text.get("vocab_size") or 0) * 8


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size < 10e9 else f"{size / 1e9:.1f} GB"
