"""A whole folder of a model or adapter, looked at before any engine sees it."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from apps.models.admission.adapter import check_base, read_adapter_config
from apps.models.admission.chat_template import judge_templates
from apps.models.admission.documents import check_config, check_document, read_json
from apps.models.admission.files import is_dangerous
from apps.models.admission.refusal import Refusal, Refused
from apps.models.admission.safetensors import Tensor, read_tensors

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
    return sorted(refusals + _judge_templates(folder, files), key=lambda refusal: refusal.file)


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
    elif path.suffix == ".model":
        with path.open("rb") as file:
            if file.read(1) != SENTENCEPIECE:
                raise Refused("It is not a SentencePiece model.")


def _judge_whole(
    folder: Path, files: list[Path], tensors: dict[Path, list[Tensor]], base: Path | None
) -> list[Refusal]:
    """What no single file shows."""
    names = {_name(path, folder) for path in files}
    if not any("/" not in _name(path, folder) for path in tensors):
        return [] if any(name.endswith(".safetensors") for name in names) else [Refusal("", "It holds no safetensors.")]
    adapter, config = folder / "adapter_config.json", folder / "config.json"
    if adapter in files:
        return _judge(folder, adapter, partial(_check_adapter, adapter, tensors, base))
    if config not in files:
        return [Refusal("config.json", "It is missing: give a folder in Hugging Face's layout.")]
    refusals = _judge(folder, config, partial(check_config, config))
    for path in files:
        if path.name.endswith(".safetensors.index.json"):
            refusals += _judge(folder, path, partial(_check_index, path, tensors))
    return refusals


def _check_adapter(path: Path, tensors: dict[Path, list[Tensor]], base: Path | None) -> None:
    read_adapter_config(path)
    weights = path.with_name("adapter_model.safetensors")
    if weights not in tensors:
        raise Refused("Its weights, adapter_model.safetensors, are missing.")
    if base:
        check_base(tensors[weights], json.loads((base / "config.json").read_bytes()))


def _check_index(path: Path, tensors: dict[Path, list[Tensor]]) -> None:
    """Every tensor is in the shard that the index names."""
    index = read_json(path)
    places: Any = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise Refused("It has no weight_map from tensors to files.")
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
