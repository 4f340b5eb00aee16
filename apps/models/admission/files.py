"""Which files of a repository are fetched: by name and size alone, before a byte of them is here."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from apps.models.admission.refusal import Refusal

WANTED = (
    "*.safetensors", "*.json", "*.jinja", "*.txt", "*.md", "*.model", "*.tiktoken",
    "LICENSE", "LICENCE", "NOTICE", "USE_POLICY*",
)  # fmt: skip
WANTED_FOLDERS = ("additional_chat_templates", "[0-9]_*")  # the second: Sentence Transformers' modules
UNWANTED = ("consolidated*.safetensors",)  # Mistral's second copy of the weights
# Loading these can run code, or is code.
DANGEROUS = frozenset({
    ".py", ".pyc", ".so", ".dll", ".dylib", ".exe", ".sh", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib",
    ".npy", ".npz", ".h5", ".keras", ".msgpack", ".gguf", ".onnx", ".pb", ".zip", ".tar", ".gz", ".whl", ".nemo", ".ot",
})  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9_+=@-][A-Za-z0-9_.+=@-]{0,199}")
MAX_FILES = 2_000


@dataclass(frozen=True, slots=True)
class RepoFile:
    path: str
    """With "/" between its parts."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    wanted: tuple[RepoFile, ...]
    ignored: tuple[RepoFile, ...]
    """What an engine does not need; it is left where it is."""
    refusals: tuple[Refusal, ...]
    """Any of these: nothing is fetched."""

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.wanted)


def choose_files(files: Iterable[RepoFile], *, max_bytes: int) -> Choice:
    """Sort a repository's files into those that are fetched and those that are not."""
    listing = list(files)
    if tricks := [file for file in listing if _is_trick(file.path)]:
        reason = "Its path leads out of the repository: do not use this repository."
        return Choice((), (), tuple(Refusal(file.path, reason) for file in tricks))
    wanted = [file for file in listing if is_wanted(file.path)]
    ignored = [file for file in listing if not is_wanted(file.path)]
    return Choice(tuple(wanted), tuple(ignored), tuple(_missing(wanted, ignored) + _too_much(wanted, max_bytes)))


def is_wanted(path: str) -> bool:
    """Whether an engine may need a file of this name."""
    *folders, name = PurePosixPath(path).parts
    if not all(NAME.fullmatch(part) for part in (*folders, name)) or any(fnmatchcase(name, no) for no in UNWANTED):
        return False
    in_place = not folders or (len(folders) == 1 and any(fnmatchcase(folders[0], known) for known in WANTED_FOLDERS))
    return in_place and any(fnmatchcase(name, known) for known in WANTED)


def is_dangerous(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in DANGEROUS


def _is_trick(path: str) -> bool:
    return (
        path.startswith(("/", "~"))
        or "\\" in path
        or ".." in path.split("/")
        or any(ord(character) < 32 for character in path)
    )


def _missing(wanted: list[RepoFile], ignored: list[RepoFile]) -> list[Refusal]:
    names = {file.path for file in wanted}
    refusals = []
    if not names & {"config.json", "adapter_config.json"}:
        reason = "It has neither config.json nor adapter_config.json: give a model or a LoRA adapter in that layout."
        refusals.append(Refusal("config.json", reason))
    if not any(name.endswith(".safetensors") for name in names):
        others = [file.path for file in ignored if is_dangerous(file.path)]
        what = (
            f"Its weights are only in {others[0]}, a format that is not loaded here" if others else "It has no weights"
        )
        reason = f"{what}: look for a version of the model with .safetensors files."
        refusals.append(Refusal(others[0] if others else "model.safetensors", reason))
    return refusals


def _too_much(wanted: list[RepoFile], max_bytes: int) -> list[Refusal]:
    total = sum(file.bytes for file in wanted)
    if len(wanted) > MAX_FILES:
        return [Refusal("", f"It has {len(wanted):,} files; at most {MAX_FILES:,} are fetched.")]
    if total > max_bytes:
        limits = f"It has {total / 1e9:,.1f} GB, and MODEL_MAX_BYTES allows {max_bytes / 1e9:,.1f} GB"
        return [Refusal("", f"{limits}: raise the setting, or choose a smaller model.")]
    return []
