"""Repositories that want to run code, hide something, or take the engine down, and which file gives each away.

    for repository in corpus():
        repository.write(folder)            # its files, as a clone would have them
        # admission must refuse it, naming repository.file and saying repository.reason

Links, pipes and the like exist on disk only; `repository.on_hub` tells which a hub could serve.
"""

import json
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.hostile.folders import (
    ADAPTER,
    CONFIG,
    RANK,
    TOKENIZER,
    WEIGHTS,
    entries,
    safetensors,
    tiny_adapter,
    tiny_model,
    write_files,
)


class Bomb:
    """Its pickle runs a command when it is loaded. Nothing here ever loads it."""

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, ("echo pwned",)


@dataclass(frozen=True, slots=True)
class HostileRepo:
    name: str
    file: str
    """The file that is refused; empty for the whole."""
    reason: str
    """A part of the reason's text."""
    files: Mapping[str, Any]
    """Path -> bytes, text, or what becomes JSON."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Path -> where the link leads."""
    pipes: tuple[str, ...] = ()
    is_adapter: bool = False
    """For the tiny model."""

    @property
    def on_hub(self) -> bool:
        return not self.links and not self.pipes

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, self.files)
        for name, target in self.links.items():
            (folder / name).symlink_to(target)
        for name in self.pipes:
            os.mkfifo(folder / name)


def corpus() -> list[HostileRepo]:
    return [*_weights(), *_headers(), *_documents(), *_templates(), *_adapters(), *_on_disk()]


def _model(without: str = "", **files: Any) -> dict[str, Any]:
    """The tiny model with other files; `__` in a name stands for a dot."""
    changed = {name.replace("__", "."): content for name, content in files.items()}
    return {name: content for name, content in (tiny_model() | changed).items() if name != without}


def _weights() -> list[HostileRepo]:
    pickled = pickle.dumps(Bomb())
    only = "model.safetensors"
    return [
        HostileRepo("pickle", "pytorch_model.bin", "safetensors", _model(only, pytorch_model__bin=pickled)),
        HostileRepo("pickle-as-safetensors", only, "no safetensors file", _model(model__safetensors=pickled * 9)),
        HostileRepo("zip-as-safetensors", only, "no safetensors", _model(model__safetensors=b"PK\3\4" + bytes(999))),
        HostileRepo("gguf-as-safetensors", only, "no safetensors", _model(model__safetensors=b"GGUF" + bytes(999))),
        HostileRepo("gguf", "tiny.gguf", "safetensors", _model(only, tiny__gguf=b"GGUF" + bytes(99))),
        HostileRepo("no-weights", "model.safetensors", "no weights", _model(only)),
        HostileRepo("no-config", "config.json", "config.json", _model("config.json")),
        HostileRepo(
            "look-alike", "model.safetensors", "no weights", _model(only, **{"m\u043edel.safetensors": b"x" * 99})
        ),
        HostileRepo("sentencepiece-pickle", "tokenizer.model", "SentencePiece", _model(tokenizer__model=pickled)),
    ]


def _headers() -> list[HostileRepo]:
    good = entries(WEIGHTS)
    (first, one), (second, two) = good.items()
    middle = one["data_offsets"][1]

    def bad(name: str, reason: str, raw: bytes) -> HostileRepo:
        return HostileRepo(name, "model.safetensors", reason, _model(model__safetensors=raw))

    def with_second(**changes: Any) -> bytes:
        return safetensors({first: one, second: two | changes}, two["data_offsets"][1])

    tensor = b'{"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
    twice = b'{"a": %s, "a": %s}' % (tensor, tensor)
    index = {"weight_map": {first: "../../../etc/passwd", second: "model.safetensors"}}
    return [
        bad("header-of-an-exabyte", "header would have", safetensors(good, length=2**60)),
        bad("header-past-the-end", "header would have", safetensors(good, length=10**6)),
        bad("header-no-json", "not valid", safetensors(b"{not json}", 8)),
        bad("header-deep", "not valid", safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 8)),
        bad("header-twice", "twice", safetensors(twice, 1)),
        bad("overlap", "overlaps", with_second(data_offsets=[middle - 64, middle - 64 + middle])),
        bad("hole", "nobody names", with_second(data_offsets=[middle + 64, middle + 64 + middle])),
        bad("hidden-tail", "behind its last tensor", safetensors(good) + b"#!/bin/sh"),
        bad("cut-off", "cut off", safetensors(good)[:-100]),
        bad("negative-shape", "no sizes", with_second(shape=[-32, -64])),
        bad(
            "not-a-number",
            "not valid",
            safetensors(b'{"a": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 1]}', 1),
        ),
        bad("shape-lies", "bytes that its shape needs", with_second(shape=[2**40, 2**40])),
        bad("unknown-type", "unknown type", with_second(dtype="PICKLE")),
        bad("metadata-bomb", "megabyte", safetensors(good | {"__metadata__": {"x": "y" * 2_000_000}}, 2 * middle)),
        bad("metadata-object", "map of texts", safetensors(good | {"__metadata__": {"x": {"y": "z"}}}, 2 * middle)),
        HostileRepo(
            "index-leads-out",
            "model.safetensors.index.json",
            "not among",
            _model(model__safetensors__index__json=index),
        ),
    ]


def _documents() -> list[HostileRepo]:
    def config(name: str, reason: str, **changes: Any) -> HostileRepo:
        return HostileRepo(name, "config.json", reason, _model(config__json=CONFIG | changes))

    deep: Any = []
    for _ in range(200):
        deep = [deep]
    hidden = json.dumps(CONFIG)[:-1] + ', "quantization_config": {}, "quantization_config": {"auto_map": {"a": "b"}}}'
    return [
        config("auto-map", "code of its own", auto_map={"AutoModel": "modeling.Evil"}),
        config("auto-map-deep", "code of its own", text_config={"vision": [{"auto_map": {"AutoModel": "m.Evil"}}]}),
        config("trust", "code to be trusted", trust_remote_code=True),
        config("internal-key", "internal setting", _attn_implementation_internal="acme/kernel"),
        config("kernel", "built in", attn_implementation="acme/flash-kernel:evil"),
        config("class-path", "built in", architectures=["../evil/modeling:Evil"]),
        config("no-architecture", "no architecture", architectures=[]),
        config("deep", "too deeply", extra=deep),
        HostileRepo("json-bomb", "config.json", "too deeply", _model(config__json="[" * 200_000 + "]" * 200_000)),
        HostileRepo("twice", "config.json", "occurs twice", _model(config__json=hidden)),
        HostileRepo("no-json", "config.json", "not valid JSON", _model(config__json=pickle.dumps(Bomb()))),
        HostileRepo(
            "tokenizer-code", "tokenizer_config.json", "code of its own",
            _model(tokenizer_config__json=TOKENIZER | {"auto_map": {"AutoTokenizer": ["tok.Evil", None]}}),
        ),
        HostileRepo(
            "processor-code", "preprocessor_config.json", "code of its own",
            _model(preprocessor_config__json={"auto_map": {"AutoProcessor": "p.Evil"}}),
        ),
        HostileRepo(
            "tokenizer-path", "tokenizer_config.json", "built in",
            _model(tokenizer_config__json=TOKENIZER | {"tokenizer_class": "https://evil.example/tok.py"}),
        ),
        HostileRepo(
            "module", "modules.json", "not one of Sentence Transformers'",
            _model(modules__json=[{"idx": 0, "name": "0", "path": "", "type": "os.system"}]),
        ),
    ]  # fmt: skip


def _templates() -> list[HostileRepo]:
    def bad(name: str, reason: str, template: str) -> HostileRepo:
        return HostileRepo(name, "chat_template.jinja", reason, _model(chat_template__jinja=template))

    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    named = TOKENIZER | {"chat_template": [{"name": "default", "template": "x"}, {"name": "tools", "template": escape}]}
    return [
        bad("template-escape", "may not touch", escape),
        bad("template-globals", "may not touch", "{{ lipsum.__globals__['os'].system('id') }}"),
        bad(
            "template-endless",
            "stand still",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ),
        bad("template-memory", "stand still", "{{ 'a' * 10**10 }}"),
        bad("template-flood", "stand still", "{% for a in range(99999) %}{{ 'a' * 99999 }}{% endfor %}"),
        bad("template-broken", "not a valid template", "{% for %}"),
        HostileRepo("template-second", "tokenizer_config.json", "may not touch", _model(tokenizer_config__json=named)),
    ]


def _adapters() -> list[HostileRepo]:
    def bad(name: str, reason: str, files: Mapping[str, Any]) -> HostileRepo:
        return HostileRepo(name, "adapter_config.json", reason, files, is_adapter=True)

    return [
        HostileRepo(
            "adapter-of-another-model", "adapter_model.safetensors", "96 wide, the base model's 64",
            tiny_adapter(width=96), is_adapter=True,
        ),
        bad("adapter-huge-rank", "rank r", tiny_adapter(r=10**9)),
        bad("adapter-rank-pattern", "rank r", tiny_adapter(rank_pattern={"q_proj": 10**9})),
        bad("adapter-code", "code of its own", tiny_adapter(auto_mapping={"parent_library": "os"})),
        bad("adapter-other-kind", "not a LoRA adapter", tiny_adapter(peft_type="PROMPT_TUNING")),
        bad("adapter-modules", "whole modules", tiny_adapter(modules_to_save=["lm_head"])),
        bad("adapter-targets", "list of names", tiny_adapter(target_modules=[{"import": "os"}])),
        HostileRepo(
            "adapter-pickle", "adapter_model.bin", "safetensors",
            {"adapter_config.json": ADAPTER | {"r": RANK}, "adapter_model.bin": pickle.dumps(Bomb())}, is_adapter=True,
        ),
    ]  # fmt: skip


def _on_disk() -> list[HostileRepo]:
    """What a folder can hold and a hub cannot."""
    return [
        HostileRepo("link-out", "secrets.json", "a link", _model(), links={"secrets.json": "/etc/passwd"}),
        HostileRepo("link-folder", "more", "a link", _model(), links={"more": "/etc"}),
        HostileRepo("link-weights", "b.safetensors", "a link", _model(), links={"b.safetensors": "/dev/zero"}),
        HostileRepo("pipe", "extra.json", "not a regular file", _model(), pipes=("extra.json",)),
    ]
