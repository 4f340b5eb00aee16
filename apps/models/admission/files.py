"""Which files of a repository are fetched: by name and size alone, before a byte of them is here."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from apps.models.admission import weights
from apps.models.admission.refusal import Refusal

WANTED = (
    "*.safetensors", "*.json", "*.jinja", "*.txt", "*.md", "*.model", "*.tiktoken",
    "LICENSE", "LICENCE", "NOTICE", "USE_POLICY*",
)  # fmt: skip
WANTED_FOLDERS = ("additional_chat_templates", "[0-9]_*")  # the second: Sentence Transformers' modules
# Any of these makes texts of an engine's tokens.
TOKENIZERS = (
    "tokenizer.json", "tokenizer.model*", "*.tiktoken", "tekken.json", "vocab.json", "vocab.txt", "*.model",
)  # fmt: skip
NO_TOKENIZER = "It is missing, and so is any other tokenizer: no engine starts without one. Fetch the model again."
# Loading these can run code, or is code.
DANGEROUS = frozenset({
    ".py", ".pyc", ".so", ".dll", ".dylib", ".exe", ".sh", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib",
    ".npy", ".npz", ".h5", ".keras", ".msgpack", ".gguf", ".onnx", ".pb", ".zip", ".tar", ".gz", ".whl", ".nemo", ".ot",
})  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9_+=@-][A-Za-z0-9_.+=@-]{0,199}")
MAX_FILES = 2_000
MAX_NAMED = 10  # missing files


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


def choose_files(files: Iterable[RepoFile], *, max_bytes: int, index: Mapping[str, str] | None = None) -> Choice:
    """Sort a repository's files into those that are fetched and those that are not.

    `index` is what its `model.safetensors.index.json` says: tensor -> file. One that names no file that is there is
    left out, if the weights are there in one file.
    """
    listing = list(files)
    if tricks := [file for file in listing if _is_trick(file.path)]:
        reason = "Its path leads out of the repository: do not use this repository."
        return Choice((), (), tuple(Refusal(file.path, reason) for file in tricks))
    names = {file.path for file in listing if is_wanted(file.path)}
    unread = set()
    if index is not None and weights.SINGLE in names and not names & set(index.values()):
        unread, index = {weights.INDEX}, None
    unread |= {name for name in names if name.endswith(".safetensors.index.json") and name != weights.INDEX}
    unread |= set(weights.strays(names, index))
    wanted = [file for file in listing if file.path in names - unread]
    ignored = [file for file in listing if file.path not in names - unread]
    refusals = _missing(wanted, ignored) + _shards(wanted, index) + _too_much(wanted, max_bytes)
    return Choice(tuple(wanted), tuple(ignored), tuple(refusals))


def is_wanted(path: str) -> bool:
    """Whether an engine may need a file of this name."""
    *folders, name = PurePosixPath(path).parts
    if not all(NAME.fullmatch(part) for part in (*folders, name)):
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


def has_tokenizer(names: Iterable[str]) -> bool:
    """Among the files of the folder itself."""
    return any(fnmatchcase(name, known) for name in names if "/" not in name for known in TOKENIZERS)


def missing_weights(names: Iterable[str], index: Mapping[str, str] | None) -> list[str]:
    """Files of weights that should be there and are not, by the index or by the names of the others."""
    there = set(names)
    if index is not None:
        return sorted(set(index.values()) - there)
    return weights.missing_shards(weights.files_read(there, None))


def _shards(wanted: list[RepoFile], index: Mapping[str, str] | None) -> list[Refusal]:
    missing = missing_weights([file.path for file in wanted], index)[:MAX_NAMED]
    cure = "look for a version of the model that is whole."
    if index is not None:
        reason = f"It names the file {{!r}}, which is not among the repository's files: {cure}"
        return [Refusal(weights.INDEX, reason.format(name[:100])) for name in missing]
    return [Refusal(name[:200], f"It is missing, and the other files' names count it: {cure}") for name in missing]


def _missing(wanted: list[RepoFile], ignored: list[RepoFile]) -> list[Refusal]:
    names = {file.path for file in wanted}
    refusals = []
    if not names & {"config.json", "adapter_config.json"}:
        reason = "It has neither config.json nor adapter_config.json: give a model or a LoRA adapter in that layout."
        refusals.append(Refusal("config.json", reason))
    if not weights.is_adapter(names) and not has_tokenizer(names):
        refusals.append(Refusal("tokenizer.json", NO_TOKENIZER))
    if not any(name.endswith(".safetensors") for name in names):
        others = [file.path for file in ignored if is_dangerous(file.path) or fnmatchcase(file.path, weights.MISTRAL)]
        what = (
            f"Its weights are only in {others[0]}, a format that is not loaded here" if others else "It has no weights"
        )
        reason = f"{what}: look for a version of the model with .safetensors files in Hugging Face's layout."
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
