"""What may be set for a model's engine: an allow-list, so that no setting can run code or open a door.

`parse` reads `Model.engine_settings` and whatever a form or the API was given; `EngineSettings` is what the engine's
command line is made of. Values are those of vLLM 0.32 and 0.33.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

CPU = "cpu"

Context = Annotated[
    int, Meta(ge=16, le=10_000_000, description="Context in tokens, prompt and answer; null: the model's own.")
]
Share = Annotated[float, Meta(ge=0.05, le=0.98, description="The share of a GPU's memory that the engine takes.")]
Seqs = Annotated[
    int, Meta(ge=1, le=4096, description="Requests of a batch computed at once; null: ENGINE_CONCURRENCY.")
]
Gpus = Annotated[int, Meta(ge=1, le=64, description="GPUs of the slot that share the work in this way.")]
Slots = Annotated[
    int,
    Meta(ge=0, le=64, description="Adapters that can join while the engine runs."),
]
Type = Annotated[
    Literal["auto", "bfloat16", "float16", "float32"],
    Meta(description="Of the weights and the arithmetic; auto: the model's own (bfloat16 on a CPU)."),
]
Quantization = Annotated[
    Literal[
        "awq", "awq_marlin", "gptq", "gptq_marlin", "fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "mxfp4",
        "quark", "torchao", "experts_int8", "fp8_per_tensor", "fp8_per_block", "int8_per_channel_weight_only",
    ],
    Meta(description="How the weights are packed; null: as the model's config.json says."),
]  # fmt: skip
CacheType = Annotated[
    Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"],
    Meta(description="Of the KV cache; fp8 holds twice as many tokens, a little less exactly."),
]

ToolParser = Annotated[
    Literal[
        "none",
        "hermes", "llama3_json", "llama4_json", "llama4_pythonic", "mistral", "qwen3_coder", "qwen3_xml", "granite",
        "deepseek_v3", "deepseek_v31", "deepseek_v32", "glm45", "glm47", "kimi_k2", "minimax_m2", "openai", "pythonic",
        "phi4_mini_json", "internlm", "jamba", "hunyuan_a13b", "olmo3", "seed_oss", "step3", "xlam", "functiongemma",
        "gemma4", "ernie45", "longcat",
    ],
    Meta(description="How the model writes calls of tools; null: as its family does; none: tools are refused."),
]  # fmt: skip
Strictness = Annotated[
    Literal["auto", "function", "parameter"],
    Meta(description="What binds calls of tools: auto: tool_choice, and the schema of tools with strict: true;"
         " function: the form of every call; parameter: its arguments too, as if every tool were strict."),
]  # fmt: skip
ReasoningParser = Annotated[
    Literal["none", "deepseek_r1", "glm45", "granite", "hunyuan_a13b", "kimi_k2", "minimax_m2", "mistral", "olmo3",
            "openai_gptoss", "qwen3", "seed_oss", "step3"],
    Meta(description="How the model marks its thinking, which then comes apart from the answer; null: as its family"
         " does; none: it stays in the answer."),
]  # fmt: skip
Whitespace = Annotated[
    bool,
    Meta(description="Whether JSON by a schema may hold blanks; models then write them up to max_tokens at times."),
]


Template = Annotated[
    str,
    Meta(min_length=1, max_length=100_000, description="A chat template (Jinja); null: the model's own."),
]
Ignore = Annotated[
    bool,
    Meta(description="Whether vLLM's defaults count for requests, not those of the model's generation_config.json."),
]


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model's engine is started. None leaves the choice to us or to vLLM."""

    max_model_len: Context | None = None
    dtype: Type = "auto"
    quantization: Quantization | None = None
    kv_cache_dtype: CacheType = "auto"
    max_num_seqs: Seqs | None = None
    gpu_memory_utilization: Share = 0.9
    tensor_parallel: Gpus | None = None
    """None takes what the others leave of the slot's GPUs."""
    pipeline_parallel: Gpus = 1
    data_parallel: Gpus = 1
    extra_lora_slots: Slots = 0
    tool_call_parser: ToolParser | None = None
    tool_strict_level: Strictness = "auto"
    reasoning_parser: ReasoningParser | None = None
    json_whitespace: Whitespace = False
    chat_template: Template | None = None
    ignore_generation_config: Ignore = False

    def gpus(self, devices: str) -> tuple[int, int, int]:
        """Tensor, pipeline and data parallel on a slot's devices ("cpu", "0", "0,1"). See `misfit`."""
        others = self.pipeline_parallel * self.data_parallel
        return self.tensor_parallel or max(_count(devices) // others, 1), self.pipeline_parallel, self.data_parallel

    def misfit(self, devices: str) -> str:
        """Why these settings cannot run on a slot, and what to do; empty when they can."""
        tensor, pipeline, data = self.gpus(devices)
        if (used := tensor * pipeline * data) == _count(devices):
            return ""
        return (
            f"tensor_parallel {tensor} times pipeline_parallel {pipeline} times data_parallel {data} makes {used} GPUs,"
            f" and slot {devices} has {_count(devices)}: change them, or join GPUs in one slot (GPU_SLOTS=0,1)."
        )


class SettingsRefused(ValueError):
    """Settings that no engine can be started with. `problems` has a sentence with the cure for each key."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(" ".join(problems.values()))
        self.problems = dict(problems)


FIELDS = {field.name: field.type for field in msgspec.structs.fields(EngineSettings)}


def parse(raw: Any, *, slots: Iterable[str] = ()) -> EngineSettings:
    """The settings in `raw`, a dictionary. `slots` are the devices of all known slots: one must be able to run it.

    Raises `SettingsRefused`, a ValueError.
    """
    if not isinstance(raw, Mapping):
        raise SettingsRefused(
            {"": f"Give the settings as an object, such as {{}}; not {json.dumps(raw, default=str)}."}
        )
    if problems := {key: problem for key, value in raw.items() if (problem := _problem(key, value))}:
        raise SettingsRefused(problems)
    settings = msgspec.convert(raw, EngineSettings)
    misfits = [settings.misfit(devices) for devices in slots]
    if misfits and all(misfits):
        raise SettingsRefused({"tensor_parallel": misfits[0]})
    return settings


def describe(key: str) -> str:
    """A sentence about a setting, for forms and documentation, with its choices where it has any."""
    shape = _SHAPES[key]
    options = [shape, *shape.get("anyOf", ())]
    sentence = next((option["description"] for option in options if "description" in option), "")
    values = next((option["enum"] for option in options if "enum" in option), ())
    return f"{sentence} One of: {', '.join(values)}." if values else str(sentence)


_SHAPES = msgspec.json.schema(EngineSettings)["$defs"]["EngineSettings"]["properties"]


def _problem(key: str, value: Any) -> str:
    if key not in FIELDS:
        return f"{key!r} cannot be set: leave it out. What can: {', '.join(FIELDS)}."
    try:
        msgspec.convert(value, FIELDS[key])
    except msgspec.ValidationError as error:
        return f"{key} cannot be {json.dumps(value, default=str)}: {error}. {describe(key)}"
    return ""


def _count(devices: str) -> int:
    """Of the GPUs; a CPU counts as one."""
    return 1 if devices == CPU else len(devices.split(","))
