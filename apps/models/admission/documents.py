"""A model's JSON files: parsed within bounds, and nothing in them may name code.

`trust_remote_code=False` alone was got round several times: by `auto_map` (CVE-2025-66448, CVE-2026-22807), by
`_attn_implementation_internal` (CVE-2026-4372), by a configuration that switched it on again (CVE-2026-5241).
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps.models.admission.refusal import Refused, refuse_pointer

MAX_BYTES = 64 * 1024**2  # the largest tokenizers have half of it
MAX_DEPTH = 64
BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DATA = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})  # their keys are words of a language

OWN_CODE = "needs code of its own, which is not run here: look for a version that vLLM knows by itself"
FORBIDDEN = {
    "auto_map": OWN_CODE,
    "auto_mapping": OWN_CODE,
    "custom_pipelines": OWN_CODE,
    "custom_generate": OWN_CODE,
    "trust_remote_code": "asks for code to be trusted, which is refused here",
}
# Keys that choose a class or a kernel by its name: a path or an address would fetch it from elsewhere.
NAMES_CODE = frozenset({
    "architectures", "model_type", "tokenizer_class", "fast_tokenizer_class", "processor_class", "backend",
    "image_processor_type", "video_processor_type", "feature_extractor_type", "quant_method", "kernel", "kernels",
    "attn_implementation", "_attn_implementation", "experts_implementation",
})  # fmt: skip
# What PEFT writes down of the class that an adapter was trained on: nothing here loads by it.
TRAINED_ON = {
    "base_model_class": re.compile(r"[A-Za-z_]\w{0,100}"),
    "parent_library": re.compile(r"(transformers|unsloth\w*)(\.[A-Za-z_]\w*){0,10}"),
}
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,100}")
MODULE = re.compile(r"sentence_transformers(\.[A-Za-z_]\w*)+")


def read_json(path: Path) -> Any:
    """Raises `Refused`."""
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"It is larger than {MAX_BYTES // 1024**2} MiB.")
    content = path.read_bytes()
    refuse_pointer(content[:40])
    if content.startswith(BOMS):
        raise Refused("It begins with a byte order mark, at which the engine stumbles: save it as UTF-8 without one.")
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique)
    except RecursionError as error:
        raise Refused("It is nested too deeply.") from error
    except ValueError as error:
        raise Refused(f"It is not valid JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Parsers disagree about which of two values counts; the second could hide from a check."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)[:100]!r} occurs twice")
    return found


def check_document(path: Path) -> None:
    """Raises `Refused` for a JSON file that names code, or that cannot be read."""
    document = read_json(path)
    if path.name == "tokenizer.json":
        _check_tokenizer(document)
    if path.name in DATA or path.name.endswith(".index.json"):
        return
    for key, value in _entries(document):
        _check_entry(key, value)
    if path.name == "modules.json":
        _check_modules(document)


def check_config(path: Path) -> None:
    """Raises `Refused` when a model's config.json does not say what the model is."""
    config = read_json(path)
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(architectures, list) or not architectures:
        raise Refused("It names no architecture: this is not a model that vLLM can serve.")
    if not isinstance(config.get("model_type"), str):
        raise Refused("It names no model_type: this is not a model that vLLM can serve.")


def _entries(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, however deep."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Refused("It is nested too deeply.")
        if isinstance(value, dict):
            yield from value.items()
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _check_entry(key: str, value: Any) -> None:
    if key in FORBIDDEN and value not in (None, False, {}, []) and not (key == "auto_mapping" and _is_harmless(value)):
        raise Refused(f"{key!r}: the model {FORBIDDEN[key]}.")
    if key.endswith("_internal"):
        raise Refused(f"{key!r} is an internal setting that a repository has no business to make.")
    if key in NAMES_CODE:
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and not IDENTIFIER.fullmatch(name):
                raise Refused(f"{key!r} names {name[:100]!r}, which is not the name of something built in.")


def _is_harmless(mapping: Any) -> bool:
    """Whether it names a class of transformers', and no code of its own."""
    if not isinstance(mapping, dict):
        return False
    names = {key: value for key, value in mapping.items() if not isinstance(value, bool)}
    return names.keys() <= TRAINED_ON.keys() and all(
        isinstance(name, str) and TRAINED_ON[key].fullmatch(name) for key, name in names.items()
    )


def _check_tokenizer(document: Any) -> None:
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or not model.get("vocab"):
        raise Refused("It holds no vocabulary (model.vocab): it is no tokenizer. Fetch the file again.")


def _check_modules(modules: Any) -> None:
    """Sentence Transformers imports whatever class stands here."""
    for module in modules if isinstance(modules, list) else [modules]:
        kind = module.get("type") if isinstance(module, dict) else None
        if not isinstance(kind, str) or not MODULE.fullmatch(kind):
            raise Refused(f"It names the module {str(kind)[:100]!r}, which is not one of Sentence Transformers'.")
