"""How much memory a training takes: against figures computed by hand, and against real trainers on this machine."""

import json
from typing import Any

import pytest

from apps.training.memory import CPU_OVERHEAD, GPU_OVERHEAD, Estimate, Shape, adapter_parameters, estimate
from apps.training.options import parse
from apps.training.spec import Method, Technique
from tests.training.tiny import DEMO_MODEL

LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
PARAMETERS = 8_030_261_248
OPTIONS = {"rank": 16, "batch_size": 2, "max_length": 2048}


def of_8b(method: Method = "sft", technique: Technique = "lora", *, on_cpu: bool = False, **options: Any) -> Estimate:
    chosen = parse(OPTIONS | options)
    return estimate(LLAMA_8B, parameters=PARAMETERS, method=method, technique=technique, options=chosen, on_cpu=on_cpu)


def test_it_works() -> None:
    need = of_8b()
    assert need.weights == 16_060_522_496  # 2 bytes each
    assert need.adapter == 167_772_160  # 41,943,040 numbers of 4 bytes, as Unsloth's notebooks print for rank 16
    assert need.gradients == need.adapter
    assert need.optimizer == 2 * need.adapter
    assert need.overhead == GPU_OVERHEAD
    assert need.total == sum(value for part, value in need.as_dict().items() if part != "total")


def test_an_adapter_has_two_matrices_for_each_target() -> None:
    shape = Shape.of(LLAMA_8B)
    chosen = parse({"rank": 8, "targets": ["q_proj", "v_proj"]})
    assert adapter_parameters(shape, chosen) == 32 * 8 * ((4096 + 4096) + (4096 + 1024)) == 3_407_872


def test_qlora_keeps_embeddings_in_16_bits() -> None:
    embeddings = 2 * 128256 * 4096
    assert of_8b(technique="qlora").weights == 2 * embeddings + int((PARAMETERS - embeddings) * 0.55)
    tied = estimate(
        LLAMA_8B | {"tie_word_embeddings": True}, parameters=PARAMETERS, method="sft", technique="qlora",
        options=parse({}), on_cpu=False,
    )  # fmt: skip
    assert tied.weights == embeddings + int((PARAMETERS - embeddings // 2) * 0.55)


def test_a_whole_model_is_trained_in_16_bits() -> None:
    need = of_8b(technique="full")
    assert (need.adapter, need.gradients, need.optimizer) == (0, 2 * PARAMETERS, 4 * PARAMETERS)


def test_preferences_of_a_whole_model_keep_the_model_as_it_was() -> None:
    assert of_8b("dpo", "full").weights == 2 * of_8b("sft", "full").weights
    assert of_8b("dpo").weights == of_8b("sft").weights  # there it is the model without its adapter


def test_activations_by_hand() -> None:
    """4,096 tokens; 32 layers that keep their inputs; two layers whole; pieces of the logits. In a layer: norms,
    attention and gate; then the inputs of the seven targets, and what the adapters make of them."""
    tokens = 2 * 2048
    token = 2 * (2 * 4096 + 4 * 4096 + 3 * 14336) + 2 * (6 * 4096 + 14336) + 4 * 16 * 7
    pieces = 3 * 4 * 16 * 1024**2
    assert of_8b(gradient_checkpointing=True).activations == tokens * (32 * 2 * 4096 + 2 * token) + pieces
    assert of_8b(gradient_checkpointing=False).activations == tokens * 34 * token + pieces


def test_preferences_compute_two_answers_at_once() -> None:
    pieces = 3 * 4 * 16 * 1024**2
    assert of_8b("dpo").activations - pieces == 2 * (of_8b("sft").activations - pieces)


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"max_length": 1024}, {"gradient_checkpointing": True}])
def test_what_an_error_advises_helps(change: dict[str, Any]) -> None:
    assert of_8b(**{"gradient_checkpointing": False} | change).total < of_8b(gradient_checkpointing=False).total


def test_a_model_that_also_sees_is_its_text_model() -> None:
    text = dict(LLAMA_8B)
    inside = estimate(
        {"model_type": "other", "text_config": text}, parameters=PARAMETERS, method="sft", technique="lora",
        options=parse(OPTIONS), on_cpu=False,
    )  # fmt: skip
    assert inside == of_8b()


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        (80e9, "It takes about 20.8 GB of 80.0 GB."),
        (22e9, "It takes about 20.8 GB of 22.0 GB: that is tight."),
        (16e9, "It takes about 20.8 GB, and the device has 16.0 GB: choose a smaller batch_size or max_length,"),
    ],
)
def test_it_says_whether_it_fits(memory: float, sentence: str) -> None:
    assert of_8b(gradient_checkpointing=True).sentence(int(memory)).startswith(sentence)


@pytest.mark.parametrize(
    ("technique", "options", "measured"),
    [
        ("lora", {"batch_size": 4, "max_length": 512, "gradient_checkpointing": True}, 2_128_416_768),
        ("lora", {"batch_size": 2, "max_length": 768, "gradient_checkpointing": True}, 1_910_673_408),
        ("lora", {"batch_size": 1, "max_length": 256, "gradient_checkpointing": True}, 1_130_237_952),
        ("lora", {"batch_size": 4, "max_length": 512, "gradient_checkpointing": False}, 3_955_437_568),
        ("lora", {"batch_size": 1, "max_length": 512, "gradient_checkpointing": False}, 1_825_349_632),
        (
            "lora",
            {
                "batch_size": 2, "max_length": 768, "gradient_checkpointing": False, "rank": 64,
                "targets": ["q_proj", "v_proj"],
            },
            2_233_417_728,
        ),
        ("full", {"batch_size": 2, "max_length": 256, "gradient_checkpointing": True}, 2_184_331_264),
        ("qlora", {"batch_size": 4, "max_length": 512, "gradient_checkpointing": True}, 2_922_770_432),
        ("qlora", {"batch_size": 1, "max_length": 256, "gradient_checkpointing": True}, 1_185_583_104),
        ("qlora", {"batch_size": 1, "max_length": 512, "gradient_checkpointing": False}, 1_917_493_248),
    ],
)  # fmt: skip
def test_it_was_right_about_the_demo_model(technique: Technique, options: dict[str, Any], measured: int) -> None:
    """The most that real trainers had resident on a CPU (AMD EPYC, 2 cores), each after two steps of full examples.

    The estimate's round figures for a CPU were chosen by these: that it keeps to them is what is tested.
    """
    need = estimate(
        json.loads((DEMO_MODEL / "config.json").read_text()), parameters=134_515_008, method="sft", technique=technique,
        options=parse(options), on_cpu=True,
    )  # fmt: skip
    assert need.overhead == CPU_OVERHEAD
    assert need.total == pytest.approx(measured, rel=0.15)
