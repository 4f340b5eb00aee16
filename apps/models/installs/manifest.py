"""What a folder held when it was admitted: every file's length and digest, signed, in `.manifest.json` beside them."""

import hashlib
import hmac
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = ".manifest.json"
CHUNK = 4 * 1024**2

Progress = Callable[[int], None]
"""Called with the bytes read since the last call; whatever it raises ends the reading."""


class Changed(Exception):
    """The folder is not what was admitted. The message names the first file that differs: install the model anew."""


def write(folder: Path, key: str, on_progress: Progress = lambda _bytes: None) -> str:
    """Take down what is there. Returns the digest of it all, 40 hex digits: the revision of a folder without one."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _digest(folder / name, on_progress)}
        for name in _names(folder)
    }
    draft = folder / f"{NAME}.{os.getpid()}"
    draft.write_text(json.dumps({"files": files, "signature": _sign(files, key)}, indent=1))
    draft.replace(folder / NAME)
    return hashlib.sha256(_canonical(files)).hexdigest()[:40]


def length(folder: Path) -> int:
    """Bytes of all files that a manifest takes down."""
    return sum((folder / name).stat().st_size for name in _names(folder))


def summary(folder: Path) -> tuple[str, int]:
    """The digest that `write` returned, and the bytes of all files; no file is looked at. Raises `Changed`."""
    try:
        files = json.loads((folder / NAME).read_bytes())["files"]
        size = sum(int(entry["bytes"]) for entry in files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Changed(f"The folder has no readable {NAME}.") from error
    return hashlib.sha256(_canonical(files)).hexdigest()[:40], size


def verify(folder: Path, key: str, on_progress: Progress = lambda _bytes: None) -> None:
    """Raises `Changed`; a folder without a manifest is one that was never admitted."""
    try:
        manifest = json.loads((folder / NAME).read_bytes())
        files, signature = manifest["files"], manifest["signature"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Changed(f"The folder has no readable {NAME}.") from error
    if not hmac.compare_digest(str(signature), _sign(files, key)):
        raise Changed(f"{NAME} was not signed by this server.")
    if missing := sorted(files.keys() ^ set(_names(folder))):
        raise Changed(f"{missing[0]} was added or removed.")
    for name, entry in files.items():
        size = (folder / name).stat().st_size
        if size != entry["bytes"] or _digest(folder / name, on_progress) != entry["sha256"]:
            raise Changed(f"{name} was changed.")


def _names(folder: Path) -> list[str]:
    """Every file but hidden ones, which no engine reads."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))


def _digest(path: Path, on_progress: Progress) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            on_progress(len(chunk))
    return digest.hexdigest()


def _sign(files: dict[str, Any], key: str) -> str:
    return hmac.new(key.encode(), _canonical(files), "sha256").hexdigest()


def _canonical(files: dict[str, Any]) -> bytes:
    return json.dumps(files, sort_keys=True, separators=(",", ":")).encode()
