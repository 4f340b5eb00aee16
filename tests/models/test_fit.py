"""Estimates against what is known of well-known models, and the sentences that people read."""

import json
from typing import Any

import pytest
from django.conf import settings

from apps.models.admission.safetensors import read_tensors
from apps.models.installs.fit import Verdict, estimate, fit, loaded_bytes

GIB = 2**30
LLAMA_8B: dict[str, Any] = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_8B_BYTES = 16_060_522_496
QWEN_7B = {
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584,
    "sliding_window": 131072, "use_sliding_window": False, "max_position_embeddings": 32768,
}  # fmt: skip
DEEPSEEK_V3 = {"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
DEMO = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"


def test_it_works() -> None:
    """The demo model: 134.5 million parameters of 16 bits; 30 layers of 3 heads of 64."""
    weights = loaded_bytes(read_tensors(DEMO / "model.safetensors"))
    need = estimate(json.loads((DEMO / "config.json").read_text()), weights)
    assert weights == pytest.approx(269e6, rel=0.01)
    assert need.kv_per_token == 2 * 30 * 3 * 64 * 2
    assert (need.context, need.kv_context) == (8192, 8192 * need.kv_per_token)


@pytest.mark.parametrize(
    ("config", "kibibytes"),
    [(LLAMA_8B, 128), (QWEN_7B, 56), (DEEPSEEK_V3, 61 * 576 * 2 / 1024), ({"text_config": LLAMA_8B}, 128)],
)
def test_it_knows_what_a_token_takes(config: dict[str, Any], kibibytes: float) -> None:
    assert estimate(config, 1).kv_per_token / 1024 == kibibytes


def test_a_sliding_window_bounds_what_a_long_context_takes() -> None:
    kinds = ["sliding_attention"] * 24 + ["full_attention"] * 8
    long = LLAMA_8B | {"max_position_embeddings": 131072, "sliding_window": 1024, "layer_types": kinds}
    layer = 128 * 1024 // 32
    assert estimate(long, 1).kv_context == layer * (24 * 1024 + 8 * 131072)


def test_a_linear_layer_keeps_nothing() -> None:
    hybrid = LLAMA_8B | {"layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8}
    assert estimate(hybrid, 1).kv_context == 128 * 1024 // 4 * 8192


def test_an_embedding_model_keeps_nothing() -> None:
    bert = {"architectures": ["BertModel"], "num_hidden_layers": 6, "num_attention_heads": 12, "hidden_size": 384}
    assert estimate(bert, 90_000_000).kv_context == 0


def test_devices_share_weights_and_cache() -> None:
    alone, shared = estimate(LLAMA_8B, LLAMA_8B_BYTES), estimate(LLAMA_8B, LLAMA_8B_BYTES, tensor_parallel=4)
    assert shared.weights == alone.weights // 4
    assert shared.kv_per_token == alone.kv_per_token // 4
    assert estimate(LLAMA_8B, 1, tensor_parallel=16).kv_per_token == alone.kv_per_token // 8  # a head is not cut


def test_an_eight_bit_cache_is_half() -> None:
    assert estimate(LLAMA_8B, 1, kv_cache_dtype="fp8").kv_per_token == 64 * 1024


@pytest.mark.parametrize(("gib", "verdict"), [(80, Verdict.FITS), (22, Verdict.TIGHT), (16, Verdict.NO)])
def test_it_judges(gib: int, verdict: Verdict) -> None:
    found = fit(estimate(LLAMA_8B, LLAMA_8B_BYTES), memory_bytes=gib * GIB)
    assert found.verdict == verdict
    assert found.as_dict()["verdict"] == verdict.value
    assert "Weights 16.1 GB + KV cache 1.07 GB for one full context of 8,192 tokens" in found.sentence


def test_it_says_what_would_fit() -> None:
    found = fit(estimate(LLAMA_8B | {"max_position_embeddings": 131072}, LLAMA_8B_BYTES), memory_bytes=24 * GIB)
    assert found.verdict == Verdict.NO
    tokens = int(found.sentence.split("max_model_len to ")[1].split(" ")[0].replace(",", ""))
    assert fit(estimate(LLAMA_8B, LLAMA_8B_BYTES, context=tokens), memory_bytes=24 * GIB).verdict != Verdict.NO
    assert fit(estimate(LLAMA_8B, LLAMA_8B_BYTES, context=tokens + 512), memory_bytes=24 * GIB).verdict == Verdict.NO


def test_it_says_that_nothing_would_help() -> None:
    assert "quantized version" in fit(estimate(LLAMA_8B, LLAMA_8B_BYTES), memory_bytes=8 * GIB).sentence
