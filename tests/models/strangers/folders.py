"""Models of strangers, each the sound tiny model with one thing changed, and what is to become of it.

    for folder in model_folders():
        write_files(path, folder.files)     # as a clone of the repository would have them
        # folder.refused: admission names this file and says folder.reason
        # else: it is admitted, and served as `folder.serves` says

Those with `boots` are worth a real engine, which answers for them; all others differ only in what admission sees.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.models.strangers.sound import (
    CONFIG,
    LAYERS,
    TEMPLATE,
    TOKENIZER,
    in_shards,
    index,
    shapes,
    sound_model,
    tokenizer,
    weights,
)

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 123456\n" % (b"0" * 64)
MISTRAL = weights({"layers.0.attention.wq.weight": [64, 64], "tok_embeddings.weight": [264, 64]})
LORA = weights({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": [4, 64]})
ADAPTER_CONFIG = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "acme/tiny"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    name: str
    files: Mapping[str, Any]
    """Path -> bytes, text, or what becomes JSON."""
    refused: str = ""
    """The file that is named, where it is not admitted from a folder."""
    reason: str = ""
    """A part of the reason's text."""
    on_hub: str = "same"
    """From a repository: "same", or "served" where the hub's list lets us leave out what an engine would stumble on."""
    notes: str = ""
    """A part of what its users are told, where it is admitted; empty: nothing is."""
    chats: bool = True
    """Whether it is offered for chats."""
    loads: int = 0
    """Bytes of weights that an engine loads, where it is admitted; 0: not compared."""
    boots: bool = False
    """Whether a real engine is to answer for it."""
    cause: str = ""
    """A part of why the engine does not start, where only the engine can know."""


def model_folders() -> list[ModelFolder]:
    return [
        *_sound(),
        *_incomplete(),
        *_damaged(),
        *_copies(),
        *_other_sizes(),
        *_unknown_to_the_engine(),
        *_code(),
        *_marked(),
        *_tokenizers(),
        *_vocabularies(),
        *_generation(),
        *_templates(),
    ]


def _model(*without: str, **files: Any) -> dict[str, Any]:
    """The sound model with other files; `__` in a name stands for a dot."""
    changed = {name.replace("__", "."): content for name, content in files.items()}
    return {name: content for name, content in (sound_model() | changed).items() if name not in without}


def _with(files: Mapping[str, Any]) -> dict[str, Any]:
    return sound_model() | dict(files)


def _sharded(count: int = 3, *, indexed: bool = True, without: str = "") -> dict[str, Any]:
    shards = in_shards(count)
    files = _model(WHOLE) | shards | ({INDEX: index(shards)} if indexed else {})
    return {name: content for name, content in files.items() if not without or without not in name}


def _data(tensors: Mapping[str, list[int]]) -> int:
    """Bytes of 16-bit tensors."""
    total = 0
    for shape in tensors.values():
        size = 2
        for length in shape:
            size *= length
        total += size
    return total


ALL = _data(shapes())


def _sound() -> Iterator[ModelFolder]:
    yield ModelFolder(name="sound", files=sound_model(), loads=ALL, boots=True)
    yield ModelFolder(name="sound-in-shards", files=_sharded(), loads=ALL, boots=True)
    yield ModelFolder(name="sound-in-shards-without-index", files=_sharded(indexed=False), loads=ALL, boots=True)
    untied = {name: shape for name, shape in shapes().items() if name != "lm_head.weight"}
    tied = _model(config__json=CONFIG | {"tie_word_embeddings": True}, model__safetensors=weights(untied))
    yield ModelFolder(name="sound-tied", files=tied, loads=_data(untied), boots=True)
    with_head = _model(config__json=CONFIG | {"tie_word_embeddings": True})
    yield ModelFolder(name="sound-tied-with-a-head", files=with_head, boots=True)
    described = {"README.md": "# Tiny", "LICENSE": "MIT", "special_tokens_map.json": {"eos_token": "<|end|>"}}
    new = TOKENIZER | {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "extra_special_tokens": []}
    files = _with({"tokenizer_config.json": new, **described})
    yield ModelFolder(name="sound-of-transformers-5", files=files, loads=ALL, boots=True)
    yield ModelFolder(name="sound-of-unsloth", files=_model(config__json=CONFIG | {"unsloth_fixed": True}), loads=ALL)
    yield ModelFolder(name="sound-f32", files=_model(model__safetensors=weights(shapes(), "F32")), loads=ALL)


def _incomplete() -> Iterator[ModelFolder]:
    second = "model-00002-of-00003.safetensors"
    for number in (1, 2, 3):
        name = f"model-{number:05}-of-00003.safetensors"
        files = _sharded(indexed=False, without=name)
        yield ModelFolder(name=f"shard-{number}-missing", files=files, refused=name, reason="missing")
    files = _sharded(without=second)
    yield ModelFolder(name="shard-missing-with-index", files=files, refused=INDEX, reason=second)
    other = in_shards(3)
    renamed = {name.replace("model-", "weights-"): raw for name, raw in other.items() if name != second}
    yield ModelFolder(
        name="shard-missing-of-another-name", files=_model(WHOLE) | renamed,
        refused="weights-00002-of-00003.safetensors", reason="missing",
    )  # fmt: skip
    more = _model(config__json=CONFIG | {"num_hidden_layers": LAYERS + 1})
    yield ModelFolder(name="layer-missing", files=more, refused="config.json", reason=f"model.layers.{LAYERS}")
    for lacking in ("model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight", "lm_head.weight"):
        fewer = {name: shape for name, shape in shapes().items() if name != lacking}
        files = _model(model__safetensors=weights(fewer))
        yield ModelFolder(name=f"without-{lacking}", files=files, refused="config.json", reason=lacking)


def _damaged() -> Iterator[ModelFolder]:
    raw = weights(shapes())
    cut = "shorter than its header says"
    yield ModelFolder(name="cut-by-one", files=_model(model__safetensors=raw[:-1]), refused=WHOLE, reason=cut)
    yield ModelFolder(
        name="cut-in-half", files=_model(model__safetensors=raw[: len(raw) // 2]), refused=WHOLE, reason=cut
    )
    yield ModelFolder(
        name="cut-in-the-header", files=_model(model__safetensors=raw[:100]), refused=WHOLE, reason="cut off"
    )
    yield ModelFolder(name="empty", files=_model(model__safetensors=b""), refused=WHOLE, reason="too short")
    last = "model-00003-of-00003.safetensors"
    shards = _sharded()
    yield ModelFolder(name="shard-cut", files=shards | {last: shards[last][:-500]}, refused=last, reason=cut)
    yield ModelFolder(name="pointer", files=_model(model__safetensors=POINTER), refused=WHOLE, reason="git lfs pull")


def _copies() -> Iterator[ModelFolder]:
    """Second weights. In a folder the engine would read them; of a repository they are not fetched."""
    whole = weights(shapes(), "F32")
    beside = {
        "copy-fp32": "model.fp32.safetensors", "copy-fp16": "model.fp16.safetensors", "copy-named": "other.safetensors",
    }  # fmt: skip
    for name, file in beside.items():
        yield ModelFolder(
            name=name, files=_with({file: whole}), refused=file, reason="besides model.safetensors", on_hub="served",
            loads=ALL,
        )  # fmt: skip
    yield ModelFolder(
        name="copy-consolidated", files=_with({"consolidated.safetensors": MISTRAL}),
        refused="consolidated.safetensors", reason="besides", on_hub="served", loads=ALL,
    )  # fmt: skip
    yield ModelFolder(
        name="copy-consolidated-beside-shards", loads=ALL, boots=True,
        files=_sharded() | {"consolidated.safetensors": MISTRAL},
    )  # fmt: skip
    yield ModelFolder(
        name="copy-in-shards", files=_with(in_shards(3)), refused="model-00001-of-00003.safetensors",
        reason="besides", on_hub="served", loads=ALL,
    )  # fmt: skip
    yield ModelFolder(
        name="copy-whole-beside-indexed-shards",
        files=_sharded() | {WHOLE: whole},
        loads=ALL,
    )
    stale = {INDEX: index(in_shards(3))}
    yield ModelFolder(
        name="index-of-shards-that-are-gone", files=_with(stale), refused=INDEX, reason="not among", on_hub="served",
        loads=ALL,
    )  # fmt: skip
    variant = {"model.fp32.safetensors.index.json": {"weight_map": {"a": "model.fp32-00001-of-00002.safetensors"}}}
    yield ModelFolder(name="index-of-a-copy", files=_with(variant), loads=ALL)
    adapter = {"adapter_model.safetensors": LORA, "adapter_config.json": ADAPTER_CONFIG}
    yield ModelFolder(
        name="adapter-beside", files=_with(adapter), refused="adapter_model.safetensors", reason="move it out",
        on_hub="served", loads=ALL,
    )  # fmt: skip
    original = {"original/model.safetensors": whole, "original/params.json": {"dim": 64}}
    yield ModelFolder(name="original-folder", files=_with(original), loads=ALL)
    yield ModelFolder(
        name="onnx", files=_with({"onnx/model.onnx": b"\x08\x07"}), refused="onnx/model.onnx", reason="remove it",
        on_hub="served", loads=ALL,
    )  # fmt: skip
    yield ModelFolder(
        name="gguf-beside", files=_with({"tiny-q4_k_m.gguf": b"GGUF"}), refused="tiny-q4_k_m.gguf", reason="remove it",
        on_hub="served", loads=ALL,
    )  # fmt: skip
    yield ModelFolder(
        name="pytorch-beside", files=_with({"pytorch_model.bin": b"\x80"}), refused="pytorch_model.bin",
        reason="remove it", on_hub="served", loads=ALL,
    )  # fmt: skip
    twice = in_shards(2)
    second = "model-00002-of-00002.safetensors"
    everything = {"model.norm.weight": [64], **{name: shapes()[name] for name in list(shapes())[-11:]}}
    twice[second] = weights(everything | {"model.embed_tokens.weight": shapes()["model.embed_tokens.weight"]})
    yield ModelFolder(
        name="tensor-twice", files=_model(WHOLE) | twice, refused=second, reason="'model.embed_tokens.weight'"
    )
    yield ModelFolder(
        name="only-consolidated", files=_model(WHOLE) | {"consolidated.safetensors": MISTRAL},
        refused="consolidated.safetensors", reason="layout that is not loaded here",
    )  # fmt: skip


def _other_sizes() -> Iterator[ModelFolder]:
    yield ModelFolder(
        name="other-width", files=_model(config__json=CONFIG | {"hidden_size": 128}), refused="config.json",
        reason="another model's",
    )  # fmt: skip
    yield ModelFolder(
        name="other-vocabulary", files=_model(config__json=CONFIG | {"vocab_size": 100}), refused="config.json",
        reason="model.embed_tokens.weight would be 100 by 64",
    )  # fmt: skip
    yield ModelFolder(
        name="more-layers", files=_model(model__safetensors=weights(shapes(LAYERS + 1))), refused="config.json",
        reason=f"model.layers.{LAYERS}",
    )  # fmt: skip


def _unknown_to_the_engine() -> Iterator[ModelFolder]:
    """Which versions of vLLM differ in; admission leaves them to it."""
    unknown = {"architectures": ["TinyForCausalLM"], "model_type": "tiny"}
    for name, cause, changes in (
        ("unknown-architecture", "tiny", unknown),
        ("unknown-quantization", "quantization", {"quantization_config": {"quant_method": "tiny", "bits": 3}}),
        ("unknown-rope", "RoPE", {"rope_scaling": {"rope_type": "tiny", "factor": 2.0}}),
        ("unknown-activation", "tiny", {"hidden_act": "tiny"}),
    ):
        yield ModelFolder(name=name, files=_model(config__json=CONFIG | changes), cause=cause)


def _code() -> Iterator[ModelFolder]:
    own = CONFIG | {"auto_map": {"AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"}}
    yield ModelFolder(
        name="code-in-config", files=_model(config__json=own), refused="config.json", reason="code of its own"
    )
    elsewhere = TOKENIZER | {"auto_map": {"AutoTokenizer": ["acme/tiny--tokenization.Tiny", None]}}
    yield ModelFolder(
        name="code-of-a-tokenizer", files=_with({"tokenizer_config.json": elsewhere}), refused="tokenizer_config.json",
        reason="code of its own",
    )  # fmt: skip
    trained = CONFIG | {"auto_mapping": {"base_model_class": "Tiny", "parent_library": "modeling_tiny"}}
    yield ModelFolder(
        name="code-of-a-mapping", files=_model(config__json=trained), refused="config.json", reason="code of its own"
    )


def _marked() -> Iterator[ModelFolder]:
    """Text that Python reads, and engines do not."""
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        content = "\ufeff" + json.dumps(_with({"generation_config.json": {}})[name])
        yield ModelFolder(
            name=f"marked-{name}", files=_with({name: content}), refused=name, reason="byte order mark",
        )  # fmt: skip


def _tokenizers() -> Iterator[ModelFolder]:
    name = "tokenizer.json"
    yield ModelFolder(
        name="no-tokenizer", files=_model(name, "tokenizer_config.json"), refused=name, reason="any other tokenizer"
    )
    cut = json.dumps(tokenizer())[:500]
    yield ModelFolder(name="tokenizer-cut", files=_with({name: cut}), refused=name, reason="not valid JSON")
    yield ModelFolder(name="tokenizer-empty", files=_with({name: {}}), refused=name, reason="no vocabulary")
    yield ModelFolder(name="tokenizer-pointer", files=_with({name: POINTER}), refused=name, reason="git lfs pull")
    yield ModelFolder(
        name="tokenizer-config-cut", files=_with({"tokenizer_config.json": json.dumps(TOKENIZER)[:40]}),
        refused="tokenizer_config.json", reason="not valid JSON",
    )  # fmt: skip


def _added(*tokens: str, first: int) -> list[dict[str, Any]]:
    places = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": first + number, "content": token, **places} for number, token in enumerate(tokens)]


def _vocabularies() -> Iterator[ModelFolder]:
    """The tokenizer's, beside the model's own; vLLM fills the model's up to 320."""
    name = "tokenizer.json"
    sound = tokenizer()
    far = sound | {"added_tokens": [*sound["added_tokens"], *_added("<|image|>", "<|pad|>", first=320)]}
    yield ModelFolder(name="tokens-beyond", files=_with({name: far}), notes="(<|image|>, <|pad|>)", loads=ALL)
    near = sound | {"added_tokens": [*sound["added_tokens"], *_added("<|image|>", first=319)]}
    yield ModelFolder(name="tokens-in-the-padding", files=_with({name: near}), loads=ALL)
    words = sound["model"]["vocab"] | {f"word{number}": number for number in range(258, 400)}
    other = sound | {"model": sound["model"] | {"vocab": words}}
    yield ModelFolder(
        name="tokenizer-of-another-model", files=_with({name: other}), refused=name, reason="tokens up to 399"
    )
    end = _model(config__json=CONFIG | {"eos_token_id": 5000})
    yield ModelFolder(name="end-beyond-in-config", files=end, refused="config.json", reason="the token 5000")


def _generation() -> Iterator[ModelFolder]:
    name = "generation_config.json"

    def wrong(case: str, reason: str, content: Any) -> ModelFolder:
        return ModelFolder(name=f"generation-{case}", files=_with({name: content}), refused=name, reason=reason)

    def told(case: str, notes: str, boots: bool = False, **content: Any) -> ModelFolder:
        files = _with({name: content})
        return ModelFolder(name=f"generation-{case}", files=files, notes=notes, boots=boots, loads=ALL)

    yield wrong("bound-of-text", "max_new_tokens is 'many'", {"max_new_tokens": "many"})
    yield wrong("bound-of-zero", "max_new_tokens is '0'", {"max_new_tokens": 0})
    yield wrong("top-p-of-text", "top_p is '0.9'", {"top_p": "0.9"})
    yield wrong("temperature-below-zero", "temperature is '-1'", {"temperature": -1})
    yield wrong("end-of-text", "eos_token_id is '</s>'", {"eos_token_id": "</s>"})
    yield wrong("end-beyond-the-vocabulary", "the token 999", {"eos_token_id": [256, 999]})
    yield wrong("several", "top_p is '0.9'", {"max_new_tokens": "many", "top_p": "0.9", "temperature": None})
    yield wrong("list", "no JSON object", [])
    yield wrong("cut", "not valid JSON", '{"max_new_tokens": ')
    bound = "end after 5 tokens unless a request gives max_tokens: far too short"
    many = _model(config__json=CONFIG | {"max_new_tokens": "many"})
    yield ModelFolder(name="bound-of-text-in-config", files=many, refused="config.json", reason="max_new_tokens is")
    inherited = _model(config__json=CONFIG | {"max_new_tokens": 5, "temperature": 0.3})
    yield ModelFolder(name="bound-in-config", files=inherited, notes="end after 5 tokens", boots=True, loads=ALL)
    yield told("bound", bound, boots=True, max_new_tokens=5)
    yield told("long-bound", "end after 2,048 tokens", max_new_tokens=2048)
    yield told("sampling", "temperature 0.6, top_p 0.95, top_k 20", temperature=0.6, top_p=0.95, top_k=20)
    yield told("nothing", "", temperature=None, top_p=None, max_new_tokens=None, eos_token_id=[256, 257], boots=True)
    yield told("neutral", "", temperature=1.0, top_p=1, repetition_penalty=1.0, do_sample=True, unheard_of="x")


def _templates() -> Iterator[ModelFolder]:
    def own(case: str, template: Any, notes: str = "", *, chats: bool = True, boots: bool = False) -> ModelFolder:
        files = _with({"tokenizer_config.json": TOKENIZER | {"chat_template": template}})
        return ModelFolder(name=f"template-{case}", files=files, notes=notes, chats=chats, boots=boots, loads=ALL)

    none = {key: value for key, value in TOKENIZER.items() if key != "chat_template"}
    only_completions = "it answers /v1/completions only"
    yield ModelFolder(
        name="template-none", files=_with({"tokenizer_config.json": none}), chats=False, boots=True, loads=ALL,
        notes=f"It has no chat template: {only_completions}",
    )  # fmt: skip
    in_a_file = _with({"tokenizer_config.json": none, "chat_template.jinja": TEMPLATE})
    yield ModelFolder(name="template-in-a-file", files=in_a_file, loads=ALL)
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}" + TEMPLATE
    yield own("no-system", no_system, "does not take a system message: No system role.", boots=True)
    alternate = (
        "{% for m in messages if m.role != 'system' %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}"
    )
    yield own("alternate", alternate + TEMPLATE, "does not take two user messages in a row: Roles must alternate.")
    yield own("raises-always", "{{ raise_exception('Not for chat.') }}", only_completions, chats=False)
    yield own("undefined", "{{ knowledge.facts[0] }}", "'knowledge' is undefined", chats=False)
    no_tools = "{% if tools %}{{ raise_exception('No tools') }}{% endif %}"
    yield own("no-tools", no_tools + TEMPLATE, "does not take tools: No tools.")
    yield own(
        "no-empty", "{{ 1 // (messages[-1].content | length) }}", "does not take an empty message: integer division"
    )
    parts = "{% for m in messages %}{% for part in m.content %}{{ part['text'] + '' }}{% endfor %}{% endfor %}"
    yield own("parts", parts, "")
    named = [{"name": "default", "template": no_tools + TEMPLATE}, {"name": "tool_use", "template": TEMPLATE}]
    yield own("named", named)
    beside = {"chat_template.jinja": TEMPLATE, "additional_chat_templates/tool_use.jinja": no_tools + TEMPLATE}
    yield ModelFolder(
        name="template-of-tools-in-a-file", files=_with(beside), notes="does not take tools: No tools.", loads=ALL
    )
    changes = "{% if tools %}{{ tools.append(1) }}{% endif %}"
    yield own("changes-a-list", changes + TEMPLATE, "does not take tools: 'append'")
    escape = "{% if tools %}{{ tools.__class__ }}{% endif %}"
    yield ModelFolder(
        name="template-escapes-with-tools", refused="chat_template.jinja", reason="may not touch",
        files=_with({"chat_template.jinja": escape}),
    )  # fmt: skip
