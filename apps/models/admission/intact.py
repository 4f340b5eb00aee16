"""Whether an installed model's files are still what they were: looked at before each start of an engine.

Only names, lengths and the headers of the weights are read, so it takes no longer for a larger model.
"""

import json
from pathlib import Path

from apps.models.admission.files import missing_weights
from apps.models.admission.folder import read_index
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import read_tensors
from apps.models.admission.weights import files_read


def fault(folder: Path, lengths: dict[str, int]) -> str:
    """What is wrong, in a sentence that names a file and no folder; empty when nothing is.

    `lengths` are the files' bytes when the folder was admitted; empty for one that never was. A folder without any
    weights is left for the engine to judge.
    """
    return _changed(folder, lengths) or _broken(folder, lengths)


def _changed(folder: Path, lengths: dict[str, int]) -> str:
    for name, length in lengths.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing."
        if path.suffix != ".safetensors" and path.stat().st_size != length:
            return f"{name} has {path.stat().st_size:,} bytes, and had {length:,} when the model was installed."
    return ""


def _broken(folder: Path, lengths: dict[str, int]) -> str:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    try:
        index = read_index(folder)
    except Refused as refused:
        return f"model.safetensors.index.json: {refused}"
    if missing := missing_weights(names, index):
        return f"{missing[0]} is missing."
    for name in files_read(names, index):
        try:
            read_tensors(folder / name)
        except Refused as refused:
            return _about(name, str(refused))
        if name in lengths and (folder / name).stat().st_size != lengths[name]:
            return f"{name} is another file than when the model was installed."
    return ""


def known_lengths(manifest: Path) -> dict[str, int]:
    """What the manifest of an installed folder says; empty without one."""
    try:
        return {name: int(entry["bytes"]) for name, entry in json.loads(manifest.read_bytes())["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _about(name: str, reason: str) -> str:
    return f"{name} {reason.removeprefix('It ')}" if reason.startswith("It ") else f"{name}: {reason}"
