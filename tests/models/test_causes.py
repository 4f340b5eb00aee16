"""The cause in what an engine printed: the ends of real logs of vLLM 0.32 on folders that are broken, shortened."""

from pathlib import Path

import pytest

from apps.models.engines.causes import MAX_CHARACTERS, last_cause, without_paths

FOLDER = Path("/srv/models/acme--tiny/0123")

MISSING_WEIGHTS = """\
(EngineCore pid=71) ERROR 11-28 03:04:29 [core.py:1510] EngineCore failed to start.
(EngineCore pid=71) ERROR 11-28 03:04:29 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=71) ERROR 11-28 03:04:29 [core.py:1510]     raise ValueError(
(EngineCore pid=71) ERROR 11-28 03:04:29 [core.py:1510] ValueError: Following weights were not initialized from \
checkpoint: {'model.layers.2.input_layernorm.weight'}
Process EngineCore:
Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/vllm/model_executor/model_loader/default_loader.py", line 512, in check
    raise ValueError(
ValueError: Following weights were not initialized from checkpoint: {'model.layers.2.input_layernorm.weight'}
Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/vllm/v1/engine/utils.py", line 1431, in wait_for_engine_startup
    raise RuntimeError(
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
OTHER_LAYOUT = """\
ValueError: There is no module or parameter named 'layers' in LlamaForCausalLM. The available parameters belonging to  \
(LlamaForCausalLM) are: {'model.layers.0.post_attention_layernorm.weight', 'model.layers.1.self_attn.o_proj.weight', \
'model.layers.0.self_attn.o_proj.weight', 'model.layers.1.mlp.down_proj.weight', 'model.norm.weight', 'lm_head.weight'}
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}
"""
WRONG_TYPE = """\
  File "/opt/venv/lib/python3.11/site-packages/transformers/generation/configuration_utils.py", line 674, in validate
    if self.max_new_tokens is not None and self.max_new_tokens <= 0:
                                           ^^^^^^^^^^^^^^^^^^^^^^^^
TypeError: '<=' not supported between instances of 'str' and 'int'
"""
VALIDATION = """\
pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
  Value error, Cannot find any of ['group_size'] in the model's quantization config. [type=value_error, input_value=A]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
ASSERTION = """\
(EngineCore pid=71) ERROR 11-28 03:07 [core.py:1510]     assert loaded_weight.shape[output_dim] == self.org_vocab_size
(EngineCore pid=71) ERROR 11-28 03:07 [core.py:1510]            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
(EngineCore pid=71) ERROR 11-28 03:07 [core.py:1510] AssertionError
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
WORKER = """\
(Worker_TP1 pid=88) ERROR 11-28 03:07:40 [multiproc_executor.py:597] torch.OutOfMemoryError: CUDA out of memory. Tried \
to allocate 2.00 GiB. GPU 1 has a total capacity of 23.64 GiB of which 1.20 GiB is free.
(EngineCore_DP0 pid=71) ERROR 11-28 03:07:41 [core.py:700] Exception: WorkerProc initialization failed due to an \
exception in a background process. See stack trace for root cause.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}
"""
FAULT = """\
Fatal Python error: Segmentation fault

Thread 0x00007f21 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait

Current thread 0x00007f22 (most recent call first):
  File "/opt/venv/lib/python3.11/site-packages/torch/_ops.py", line 1269 in __call__
  File "/opt/venv/lib/python3.11/site-packages/vllm/_custom_ops.py", line 3010 in cpu_attention_with_kv_cache
  File "/opt/venv/lib/python3.11/site-packages/vllm/v1/attention/backends/cpu_attn.py", line 300 in forward

Extension modules: numpy._core, torch._C (total: 2)
(APIServer pid=70) ERROR 11-28 06:48:57 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
encountered an issue. See stack trace (above) for the root cause.
"""
PATHS = f"""\
OSError: Can't load the configuration of '{FOLDER}'. Look into {FOLDER}/config.json, /var/lib/other/tokenizer.json or \
https://hub.example/docs
"""
NOTHING = (
    "INFO 11-28 03:04:29 [api_server.py:10] Starting vLLM server\nWARNING: OSError: [Errno 24] is no exception here\n"
)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            MISSING_WEIGHTS,
            "ValueError: Following weights were not initialized from checkpoint: "
            "{'model.layers.2.input_layernorm.weight'}",
        ),
        (OTHER_LAYOUT, "ValueError: There is no module or parameter named 'layers' in LlamaForCausalLM"),
        (WRONG_TYPE, "TypeError: '<=' not supported between instances of 'str' and 'int'"),
        (VALIDATION, "ValidationError: Cannot find any of ['group_size'] in the model's quantization config"),
        (ASSERTION, "AssertionError: at `assert loaded_weight.shape[output_dim] == self.org_vocab_size`"),
        (
            WORKER,
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
            "GPU 1 has a total capacity of 23.64 GiB of which 1.20 GiB is free",
        ),
        (
            PATHS,
            "OSError: Can't load the configuration of 'the model's folder'. Look into config.json, tokenizer.json or "
            "https://hub.example/docs",
        ),
        (FAULT, "Segmentation fault in cpu_attention_with_kv_cache (_custom_ops.py, line 3010)"),
        (FAULT.partition("Current thread")[0], "Segmentation fault"),
        (NOTHING, ""),
    ],
    ids=[
        "missing-weights",
        "other-layout",
        "wrong-type",
        "validation",
        "assertion",
        "worker",
        "paths",
        "fault",
        "cut",
        "nothing",
    ],
)
def test_it_works(log: str, cause: str) -> None:
    assert last_cause(log.splitlines(), FOLDER) == cause


def test_paths_are_taken_out_of_whatever_is_told() -> None:
    told = "[Errno 2] No such file or directory: '/srv/models/acme--tiny/0123/adapter_config.json' (/v1/chat is meant)"
    assert without_paths(told) == "[Errno 2] No such file or directory: 'adapter_config.json' (/v1/chat is meant)"


def test_it_is_one_short_line() -> None:
    cause = last_cause([f"ValueError: {'word ' * 200}"], FOLDER)
    assert len(cause) <= MAX_CHARACTERS + 2
    assert "\n" not in cause
