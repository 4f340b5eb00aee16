"""Checkpoints on the disk. One counts once it is sealed: its manifest, written last, names every file and its SHA-256.

Django-free: the trainer's child seals them and goes on from them, the server verifies what it serves.
"""

import contextlib
import fnmatch
import hashlib
import os
import shutil
from pathlib import Path

import msgspec

MANIFEST = "manifest.json"
PREFIX = "checkpoint-"
RESUME = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
"""What only going on needs, not serving. Torch's pickles: they are read only after their digests were."""
NEEDLESS = ("training_args.bin", "README.md")
"""A pickle that nothing reads, and a text about the model that nobody wrote."""


class Corrupt(Exception):
    """A checkpoint that must not be used. The message says what is wrong with it."""


class Part(msgspec.Struct, frozen=True):
    """One file of a checkpoint."""

    path: str
    """Within the checkpoint's folder."""
    bytes: int
    sha256: str

    @property
    def for_resume(self) -> bool:
        return any(fnmatch.fnmatchcase(self.path, pattern) for pattern in RESUME)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    step: int
    metrics: dict[str, float | None]
    files: tuple[Part, ...]


class Sealed(msgspec.Struct, frozen=True):
    digest: str
    """SHA-256 of the manifest."""
    bytes: int
    """Of all files, the manifest aside."""


def seal(folder: Path, *, step: int, metrics: dict[str, float | None], keep_resume: bool = True) -> Sealed:
    """Make a complete checkpoint count: afterwards it survives a power failure. Raises OSError.

    Killed at any moment before its end, there is no manifest, and the folder does not count.
    """
    for name in NEEDLESS:
        (folder / name).unlink(missing_ok=True)
    if not keep_resume:
        thin(folder)
    files = tuple(_sync(path, name) for name, path in sorted(_files(folder).items()) if name != MANIFEST)
    content = msgspec.json.format(msgspec.json.encode(Manifest(step=step, metrics=metrics, files=files)))
    incoming = folder / f"{MANIFEST}.incoming"
    with incoming.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    for inner in {(folder / part.path).parent for part in files} | {folder}:
        _sync_folder(inner)
    incoming.rename(folder / MANIFEST)
    _sync_folder(folder)
    _sync_folder(folder.parent)
    return Sealed(hashlib.sha256(content).hexdigest(), sum(part.bytes for part in files))


def verify(folder: Path, *, digest: str = "", resume: bool = False) -> Manifest:
    """The manifest of a checkpoint whose files are, byte for byte, those that were sealed. Raises `Corrupt`.

    `digest` is what `seal` returned. Without `resume`, the files that only going on needs are not looked at.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(content, type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise Corrupt(f"The checkpoint {folder} was never completed: it has no manifest that can be read.") from error
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"The checkpoint {folder} is not the one that was saved: its manifest is another.")
    found = _files(folder)
    if strangers := found.keys() - {part.path for part in manifest.files} - {MANIFEST}:
        raise Corrupt(f"The checkpoint {folder} has a file that was not saved with it: {min(strangers)}.")
    for part in manifest.files:
        if resume or not part.for_resume:
            _check(part, found.get(part.path), folder)
    return manifest


def sealed(folder: Path) -> Sealed:
    """What `seal` returned for it. Its files are not looked at."""
    content = (folder / MANIFEST).read_bytes()
    parts = msgspec.json.decode(content, type=Manifest).files
    return Sealed(hashlib.sha256(content).hexdigest(), sum(part.bytes for part in parts))


def latest(folder: Path) -> Path | None:
    """The last checkpoint in a job's folder that training can go on from."""
    for path in reversed(saved(folder)):
        with contextlib.suppress(Corrupt):
            if any(part.for_resume for part in verify(path, resume=True).files):
                return path
    return None


def saved(folder: Path) -> list[Path]:
    """Every checkpoint's folder, sealed or not, by its step."""
    paths = [path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and step_of(path) >= 0]
    return sorted(paths, key=step_of)


def step_of(path: Path) -> int:
    """-1: it is none of ours."""
    number = path.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def sweep(folder: Path) -> tuple[Path | None, list[str]]:
    """Before training goes on: deletes what does not count and what lies after the checkpoint that it goes on from.

    Returns that one, as `latest` does, and a sentence for each that went.
    """
    last = latest(folder)
    return last, [f"{why} It is deleted." for path in saved(folder) if path != last and (why := _swept(path, last))]


def thin(folder: Path) -> None:
    """Delete what only going on needs. The checkpoint can still be served."""
    for pattern in RESUME:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Delete a checkpoint. Killed halfway, what is left does not count."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _swept(path: Path, last: Path | None) -> str:
    """Why it went; empty where it stays."""
    try:
        verify(path)
    except Corrupt as error:
        remove(path)
        return str(error)
    if last and step_of(path) < step_of(last):
        return ""
    remove(path)
    return f"The checkpoint {path} cannot be gone on from."


def _check(part: Part, path: Path | None, folder: Path) -> None:
    if path is None:
        raise Corrupt(f"The checkpoint {folder} lacks {part.path}.")
    if path.is_symlink() or path.stat().st_size != part.bytes or _digest(path) != part.sha256:
        raise Corrupt(f"The checkpoint {folder} is damaged: {part.path} is not what was saved.")


def _files(folder: Path) -> dict[str, Path]:
    """By their path within the folder."""
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def _sync(path: Path, name: str) -> Part:
    """Have a file on the disk itself, and describe it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return Part(name, path.stat().st_size, _digest(path))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
