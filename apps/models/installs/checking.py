"""What the child process finds out about a folder: whether it is admitted, whether it is what the hub announced."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.models.admission import Refusal, inspect_folder
from apps.models.admission.findings import look, look_at_adapter
from apps.models.admission.folder import read_index
from apps.models.admission.safetensors import read_tensors
from apps.models.admission.weights import files_read, is_adapter
from apps.models.installs import manifest
from apps.models.installs.errand import TELL_SECONDS, Failed, File, Order, Refused, tell
from apps.models.installs.fit import loaded_bytes
from apps.models.installs.hub import MAX_CONFIG_BYTES, short_config

GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")  # how architectures that write are called


class NotAdmitted(Refused):
    """Files speak against it."""

    def __init__(self, found: Sequence[Refusal]) -> None:
        first = found[0]
        super().__init__(f"{first.file}: {first.reason}" if first.file else first.reason)
        self.found = found


def read_config(folder: Path) -> dict[str, Any]:
    """Of a local folder, what `resolve` tells of a repository. Raises Refused."""
    entries = folder.iterdir() if folder.is_dir() else ()
    adapter = folder / "adapter_config.json"
    path = adapter if is_adapter(path.name for path in entries) else folder / "config.json"
    if not path.is_file():
        raise Refused(f"{folder} holds neither config.json nor adapter_config.json: give one in that layout.")
    content = path.read_bytes() if path.stat().st_size <= MAX_CONFIG_BYTES else b""
    return {"adapter": path == adapter, "config": short_config(content)}


def admit(folder: Path, order: Order) -> str:
    """Take down and sign what is here, and return its digest.

    Raises Failed where it is not what the hub announced, NotAdmitted where something speaks against it.
    """
    tell("progress", step="checking", bytes=0, note="", total=manifest.length(folder))
    digest = manifest.write(folder, order.key, _Reading())
    _compare(folder, order.files)
    if refusals := inspect_folder(folder, Path(order.base) if order.base else None):
        (folder / manifest.NAME).unlink()
        raise NotAdmitted(refusals)
    return digest


def verify(folder: Path, order: Order) -> None:
    """Its manifest says that it was admitted. Raises Failed."""
    tell("progress", step="checking", bytes=0, note="", total=manifest.length(folder))
    try:
        manifest.verify(folder, order.key, _Reading())
    except manifest.Changed as error:
        raise Failed(f"{error} Delete the models that use this folder, and install them anew.") from error


def describe(folder: Path, base: str = "") -> dict[str, Any]:
    """The sizes and the kind of a folder that was admitted, of an adapter for the model in the folder `base`.

    Weights that no engine reads do not count.
    """
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) if path.exists() else {}
    signed = _signed(folder)
    read = files_read(signed, read_index(folder))
    unread = {name for name in files_read(signed, None) if name not in read}
    return {
        "findings": look_at_adapter(folder, Path(base)) if is_adapter(signed) else look(folder),
        "bytes": sum(entry["bytes"] for name, entry in signed.items() if name not in unread),
        "weights": loaded_bytes(tensor for name in read for tensor in read_tensors(folder / name)),
        "pooling": is_pooling(folder, config),
    }


def is_pooling(folder: Path, config: dict[str, Any]) -> bool:
    """Whether it computes embeddings: Sentence Transformers' files, or no head that writes."""
    if (folder / "modules.json").exists() or (folder / "config_sentence_transformers.json").exists():
        return True
    architectures = config.get("architectures", [])
    return bool(architectures) and not any(name.endswith(GENERATES) for name in architectures)


class _Reading:
    """Tells now and then how many bytes were looked at."""

    def __init__(self) -> None:
        self._bytes, self._told = 0, time.monotonic()

    def __call__(self, more: int) -> None:
        self._bytes += more
        if time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            tell("progress", bytes=self._bytes)


def _compare(folder: Path, files: Sequence[File]) -> None:
    """A file of other bytes is removed, so that it is fetched again."""
    signed = _signed(folder)
    for file in files:
        path = folder / file.path
        if not (signed[file.path]["sha256"] == file.sha256 if file.sha256 else _blob(path) == file.blob):
            path.unlink()
            raise Failed(f"The hub sent other bytes for {file.path} than it announced: try again.")


def _signed(folder: Path) -> dict[str, Any]:
    files: dict[str, Any] = json.loads((folder / manifest.NAME).read_bytes())["files"]
    return files


def _blob(path: Path) -> str:
    """The id that Git gives to these bytes: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
