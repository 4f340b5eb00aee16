"""A whole folder of a model or adapter, looked at before any engine sees it."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from apps.models.admission import weights
from apps.models.admission.adapter import WEIGHTS as ADAPTER_WEIGHTS
from apps.models.admission.adapter import check_base, check_weights, read_adapter_config
from apps.models.admission.chat_template import judge_templates
from apps.models.admission.documents import check_config, check_document, read_json
from apps.models.admission.files import NO_TOKENIZER, has_tokenizer, is_dangerous, missing_weights
from apps.models.admission.generation import NAME as GENERATION
from apps.models.admission.generation import check_generation_config, check_inherited
from apps.models.admission.layers import check_layers
from apps.models.admission.lora_tensors import check_copies
from apps.models.admission.refusal import Refusal, Refused, refuse_pointer
from apps.models.admission.safetensors import Tensor, read_tensors
from apps.models.admission.vocabulary import TOKENIZER, check_ends, check_tokenizer

OTHER_LAYOUT = "It is in a layout that is not loaded here: look for a version with model.safetensors."
ADAPTER_CONFIG = "adapter_config.json"
SENTENCEPIECE = b"\x0a"  # how a tokenizer.model begins


def inspect_folder(folder: Path, base: Path | None = None) -> list[Refusal]:
    """Everything that speaks against loading this folder; empty when it is admitted.

    Only headers of the weights are read, so it takes no longer for a larger model. `base` is the folder of the model
    that an adapter is for. Hidden files are left out: no engine reads them.
    """
    files = []
    refusals = []
    for path, problem in _walk(folder):
        if problem:
            refusals.append(Refusal(_name(path, folder), problem))
        else:
            files.append(path)
    tensors: dict[Path, list[Tensor]] = {}
    for path in files:
        refusals += _judge(folder, path, partial(_check_file, path, tensors))
    refusals += _judge_whole(folder, files, tensors, base)
    found = {*refusals, *_judge_templates(folder, files)}
    return sorted(found, key=lambda refusal: (refusal.file, refusal.reason))


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file, and what is wrong with its kind. Links are not followed."""
    for path in sorted(Path(entry) for entry in os.scandir(folder)):
        if path.name.startswith("."):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield path, "It is a link, which may lead anywhere: copy the folder with its links resolved (cp -rL)."
        elif stat.S_ISDIR(mode):
            yield from _walk(path)
        elif not stat.S_ISREG(mode):
            yield path, "It is not a regular file: remove it."
        elif is_dangerous(path.name):
            yield path, f"A {path.suffix} file can run code, and no engine needs it: remove it."
        else:
            yield path, ""


def _judge(folder: Path, path: Path, check: Callable[[], None]) -> list[Refusal]:
    try:
        check()
    except Refused as refused:
        return [Refusal(_name(path, folder), str(refused))]
    return []


def _check_file(path: Path, tensors: dict[Path, list[Tensor]]) -> None:
    if path.suffix == ".safetensors":
        tensors[path] = read_tensors(path)
    elif path.suffix == ".json":
        check_document(path)
        if path.name == GENERATION:
            check_generation_config(path)
    elif path.suffix == ".model":
        with path.open("rb") as file:
            beginning = file.read(8)
        refuse_pointer(beginning)
        if not beginning.startswith(SENTENCEPIECE):
            raise Refused("It is not a SentencePiece model.")


def _judge_whole(
    folder: Path, files: list[Path], tensors: dict[Path, list[Tensor]], base: Path | None
) -> list[Refusal]:
    """What no single file shows."""
    names = {_name(path, folder) for path in files}
    if not any("/" not in _name(path, folder) for path in tensors):
        return [] if any(name.endswith(".safetensors") for name in names) else [Refusal("", "It holds no safetensors.")]
    config = folder / "config.json"
    if weights.is_adapter(names):
        return _judge_adapter(folder, tensors, base)
    if config not in files:
        return [Refusal("config.json", "It is missing: give a folder in Hugging Face's layout.")]
    refusals = _judge(folder, config, partial(check_config, config))
    if GENERATION not in names and not refusals:
        refusals = _judge(folder, config, partial(check_inherited, config))
    if not has_tokenizer(names):
        refusals.append(Refusal("tokenizer.json", NO_TOKENIZER))
    try:
        index = read_index(folder)
    except Refused as refused:
        return [*refusals, Refusal(weights.INDEX, str(refused))]
    found = _judge_weights(folder, names, tensors, index)
    if refusals or found:
        return refusals + found
    return _judge_layers(folder, names, tensors, index) or _judge_vocabulary(folder, names)


def _judge_vocabulary(folder: Path, names: set[str]) -> list[Refusal]:
    """The tokens that its files name are the model's."""
    ends, tokenizer = folder / (GENERATION if GENERATION in names else "config.json"), folder / TOKENIZER
    try:
        config = read_json(folder / "config.json")
        if not isinstance(read_json(ends), dict):
            return []
    except Refused:
        return []  # said already
    found = _judge(folder, ends, partial(check_ends, ends, config))
    return found + (
        _judge(folder, tokenizer, partial(check_tokenizer, tokenizer, config)) if TOKENIZER in names else []
    )


def read_index(folder: Path) -> dict[str, str] | None:
    """Tensor -> file, of a model whose weights are in several; None without an index. Raises `Refused`."""
    path = folder / weights.INDEX
    return weight_map(read_json(path)) if path.is_file() else None


def weight_map(index: Any) -> dict[str, str]:
    """Raises `Refused` for what is no index."""
    places: Any = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise Refused("It has no weight_map from tensors to files.")
    return places


def _judge_weights(
    folder: Path, names: set[str], tensors: dict[Path, list[Tensor]], index: dict[str, str] | None
) -> list[Refusal]:
    """Every file of the weights is there, whole, once."""
    if index is not None:
        try:
            _check_index(index, tensors)
        except Refused as refused:
            return [Refusal(weights.INDEX, str(refused))]
    reason = "It is missing, and the other files' names count it: fetch the model again."
    missing = [Refusal(name[:200], reason) for name in missing_weights(names, index)]
    read = weights.files_read(names, index)
    copies = [name for name in weights.strays(names, index) if name in read]
    if copies:
        kept = ", ".join(name for name in read if name not in copies)[:200]
        cure = f"The engine would load it besides {kept}: move it out of the folder." if kept else OTHER_LAYOUT
        return [Refusal(name, cure) for name in copies]
    return missing or _twice(folder, read, tensors)


def _twice(folder: Path, read: list[str], tensors: dict[Path, list[Tensor]]) -> list[Refusal]:
    """Tensors that two files hold: which of them counts is chance."""
    holders: dict[str, str] = {}
    for name in read:
        for tensor in tensors.get(folder / name, ()):
            if (other := holders.setdefault(tensor.name, name)) != name:
                reason = f"It holds {tensor.name[:100]!r}, which {other} holds too: move one of them out of the folder."
                return [Refusal(name, reason)]
    return []


def _judge_layers(
    folder: Path, names: set[str], tensors: dict[Path, list[Tensor]], index: dict[str, str] | None
) -> list[Refusal]:
    """The weights are those of the model that config.json describes; only where every file could be read."""
    read = [folder / name for name in weights.files_read(names, index)]
    if not all(path in tensors for path in read):
        return []
    config = folder / "config.json"
    every = [tensor for path in read for tensor in tensors[path]]
    return _judge(folder, config, lambda: check_layers(read_json(config), every))


def _judge_adapter(folder: Path, tensors: dict[Path, list[Tensor]], base: Path | None) -> list[Refusal]:
    """Its configuration, then its weights, then both with the base model's."""
    config, path = folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS
    if refusals := _judge(folder, config, partial(_read_adapter, config, tensors)):
        return refusals
    return _judge(folder, path, partial(_check_adapter, path, tensors[path], base))


def _read_adapter(path: Path, tensors: dict[Path, list[Tensor]]) -> None:
    read_adapter_config(path)
    if path.with_name(ADAPTER_WEIGHTS) not in tensors:
        others = ", ".join(sorted(other.name for other in tensors))[:200]
        cure = f": the engine does not read {others}. Save the adapter in one file of that name." if others else "."
        raise Refused(f"Its weights, {ADAPTER_WEIGHTS}, are missing{cure}")


def _check_adapter(path: Path, tensors: list[Tensor], base: Path | None) -> None:
    config = read_adapter_config(path.with_name(ADAPTER_CONFIG))
    pairs = check_weights(path, tensors, config)
    if base:
        names = [entry.name for entry in base.iterdir() if entry.is_file()]
        read = weights.files_read(names, read_index(base))
        of_base = [tensor for name in read for tensor in read_tensors(base / name)]
        check_base(pairs, config, base, of_base)
        check_copies(tensors, of_base)


def _check_index(places: dict[str, str], tensors: dict[Path, list[Tensor]]) -> None:
    """Every tensor is in the shard that the index names."""
    found = {shard.name: {tensor.name for tensor in inside} for shard, inside in tensors.items()}
    for name, shard in places.items():
        if shard not in found:
            raise Refused(f"It names the file {shard[:100]!r}, which is not among the model's safetensors.")
        if name not in found[shard]:
            raise Refused(f"It says that {shard} holds {name[:100]!r}, which it does not.")


def _judge_templates(folder: Path, files: list[Path]) -> list[Refusal]:
    templates = [(path, text) for path in files for text in _templates(path)]
    verdicts = judge_templates([text for _, text in templates])
    return [
        Refusal(_name(path, folder), verdict) for (path, _), verdict in zip(templates, verdicts, strict=True) if verdict
    ]


def _templates(path: Path) -> list[str]:
    """The chat templates in a file: one, or several with names."""
    if path.suffix == ".jinja":
        return [path.read_text(errors="replace")]
    if path.name not in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        return []
    try:
        document = read_json(path)
    except Refused:
        return []  # said already
    found = document.get("chat_template") if isinstance(document, dict) else None
    if isinstance(found, dict):
        found = [{"template": text} for text in found.values()]
    entries = found if isinstance(found, list) else [{"template": found}]
    texts = [entry.get("template") for entry in entries if isinstance(entry, dict)]
    return [text for text in texts if isinstance(text, str)]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
