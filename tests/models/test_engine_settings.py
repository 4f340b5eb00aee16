"""The allow-list of a model's engine settings, and its cures."""

from typing import Any

import pytest

from apps.models.engines.settings import FIELDS, EngineSettings, SettingsRefused, describe, parse


def test_it_works() -> None:
    settings = parse({"max_model_len": 4096, "dtype": "float16", "extra_lora_slots": 2, "quantization": None})
    assert settings == EngineSettings(max_model_len=4096, dtype="float16", extra_lora_slots=2)
    assert parse({}) == EngineSettings()


@pytest.mark.parametrize(
    ("raw", "cure"),
    [
        ({"trust_remote_code": True}, "'trust_remote_code' cannot be set: leave it out. What can: max_model_len, "),
        ({"max_model_len": 0}, r"max_model_len cannot be 0: .*>= 16.*Context in tokens"),
        ({"max_model_len": "4096"}, "Expected `int.*got `str`"),
        ({"max_num_seqs": True}, "max_num_seqs cannot be true"),
        ({"dtype": "int8"}, "One of: auto, bfloat16"),
        ({"quantization": "gguf"}, "One of: awq"),
        ({"gpu_memory_utilization": 1.5}, r"<= 0\.98"),
        ({"data_parallel": 0}, ">= 1"),
        ([], "Give the settings as an object"),
    ],
)
def test_it_rejects_what_no_engine_starts_with(raw: Any, cure: str) -> None:
    with pytest.raises(SettingsRefused, match=cure):
        parse(raw)


def test_it_rejects_everything_at_once() -> None:
    with pytest.raises(SettingsRefused) as refused:
        parse({"dtype": "int8", "data_parallel": 0, "seed": 1})
    assert set(refused.value.problems) == {"dtype", "data_parallel", "seed"}


@pytest.mark.parametrize(
    ("raw", "slots", "fits"),
    [
        ({"tensor_parallel": 2}, ["0,1"], True),
        ({"tensor_parallel": 2}, ["cpu", "0,1"], True),  # one slot is enough
        ({"tensor_parallel": 4}, ["0,1"], False),
        ({"tensor_parallel": 1}, ["0,1"], False),  # a GPU would lie idle
        ({"pipeline_parallel": 2}, ["0,1,2,3"], True),
        ({"pipeline_parallel": 2}, ["0,1,2"], False),
        ({"data_parallel": 2}, ["cpu"], False),
        ({"tensor_parallel": 8}, [], True),  # no slot has shown itself yet
    ],
)
def test_it_knows_which_slots_can_run_them(raw: dict[str, Any], slots: list[str], fits: bool) -> None:
    if fits:
        parse(raw, slots=slots)
        return
    with pytest.raises(SettingsRefused, match="change them, or join GPUs"):
        parse(raw, slots=slots)


def test_what_others_leave_of_a_slot_is_tensor_parallel() -> None:
    assert parse({"pipeline_parallel": 2}).gpus("0,1,2,3") == (2, 2, 1)
    assert parse({}).gpus("0,1,2,3") == (4, 1, 1)
    assert parse({}).gpus("cpu") == (1, 1, 1)


def test_every_setting_is_described() -> None:
    assert all(describe(key) for key in FIELDS)
