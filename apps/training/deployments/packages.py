"""What was learned, to be taken elsewhere: a .tar of an adapter or a merged model, GGUF, or a repository of the hub."""

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from django.conf import settings
from django.utils.text import slugify

from apps.core.errors import Conflict, DomainError
from apps.core.process import ManagedProcess
from apps.datasets.exports.push import Order
from apps.datasets.exports.pushing import send, token_of
from apps.datasets.exports.services import REPOSITORY
from apps.models.admission.files import is_wanted
from apps.models.engines.command import public
from apps.training import checkpoints
from apps.training.deployments.card import card_of
from apps.training.deployments.files import folder_of, served_form
from apps.training.deployments.placing import OF_TRAINING
from apps.training.models import Checkpoint, Deployment

BLOCK = 256 * 1024  # bytes
CARD = "README.md"
CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf.py")
GGUF_TYPES = ("bf16", "f16", "q8_0")
NO_CONVERTER = (
    "GGUF needs llama.cpp's converter, which is not here: `git clone https://github.com/ggml-org/llama.cpp`, install "
    "its requirements into TRAINER_PYTHON, and put the folder with convert_hf_to_gguf.py on the PATH."
)
TICK = 0.25
STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Package:
    """Files of a model, and the card that says where it comes from."""

    name: str
    """Of the .tar's folder, and of the .tar without its suffix."""
    folder: Path
    files: tuple[str, ...]
    """Within `folder`."""
    card: bytes
    """Its README.md."""
    project_id: int
    whole: bool
    """A model of its own, and no adapter."""

    @property
    def size(self) -> int:
        """Bytes of the .tar."""
        sizes = [len(self.card), *((self.folder / name).stat().st_size for name in self.files)]
        blocks = sum(tarfile.BLOCKSIZE + _padded(size) for size in sizes)
        return blocks + 2 * tarfile.BLOCKSIZE

    def tar(self) -> Iterator[bytes]:
        """The .tar, piece by piece. The same package is the same bytes."""
        yield _header(f"{self.name}/{CARD}", len(self.card))
        yield self.card + bytes(_padded(len(self.card)) - len(self.card))
        for name in self.files:
            size = (self.folder / name).stat().st_size
            yield _header(f"{self.name}/{name}", size)
            with (self.folder / name).open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
            yield bytes(_padded(size) - size)
        yield bytes(2 * tarfile.BLOCKSIZE)


def of_checkpoint(checkpoint: Checkpoint) -> Package:
    """The adapter, or the whole model where all weights learned. Raises `DomainError` when it is damaged."""
    try:
        checkpoints.verify(checkpoint.folder, digest=checkpoint.digest)
    except checkpoints.Corrupt as error:
        raise DomainError(str(error)) from error
    return _package(checkpoint, checkpoint.folder, checkpoint.model_name)


def of_deployment(deployment: Deployment) -> Package:
    """What is served: the adapter, or the merged model. Raises `Conflict` when there is none (any more)."""
    folder = folder_of(deployment, served_form(deployment))
    if deployment.status in (*Deployment.OPEN, Deployment.Status.REFUSED) or not folder.is_dir():
        raise Conflict(f"{deployment.name} is {deployment.status}: only what is served can be taken elsewhere.")
    return _package(deployment.checkpoint, folder, deployment.name)


def push(package: Package, repository: str, *, look: Callable[[], None] = lambda: None) -> str:
    """Put it into a private repository of the hub; the commit's URL. Blocks. Raises `DomainError`.

    It may be called again after anything: what is there already is not sent again.
    """
    if not REPOSITORY.fullmatch(repository):
        raise DomainError("A repository is named owner/name: letters, digits, '.', '_', '-'.", param="repository")
    token = token_of(package.project_id)
    with _linked(package) as folder:
        return send(
            Order(
                endpoint=settings.HF_ENDPOINT, token=token, repository=repository, folder=str(folder), kind="model",
                message=f"{package.name} from vLLM Batch Server"[:200], replaced=("*.safetensors",),
            ),
            look,
        )  # fmt: skip


def convert_to_gguf(package: Package, target: Path, *, kind: str = "bf16") -> None:
    """Write a GGUF file by llama.cpp's own converter. Blocks. Raises `DomainError`, with how to get the converter."""
    if kind not in GGUF_TYPES:
        raise DomainError(f"A GGUF's type is one of {', '.join(GGUF_TYPES)}.", param="type")
    if not package.whole:
        raise DomainError("GGUF is made of a whole model: deploy it merged, and convert that deployment.")
    converter = next(filter(None, map(shutil.which, CONVERTERS)), None)
    if converter is None:
        raise DomainError(NO_CONVERTER, code="no_converter")
    with _linked(package) as folder:
        command = [str(settings.TRAINER_PYTHON), converter, str(folder), "--outfile", str(target), "--outtype", kind]
        process = ManagedProcess(command, name=f"convert {package.name}", env=public(os.environ), cwd=folder)
        process.start()
        try:
            code = process.wait()
        finally:
            process.stop(STOP_SECONDS)
    if code or not target.is_file():
        raise DomainError(f"{converter} ended with code {code}: {' '.join(process.tail(3))[-500:]}")


def _package(checkpoint: Checkpoint, folder: Path, name: str) -> Package:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    files = tuple(each for each in names if is_wanted(each) and each not in (*OF_TRAINING, CARD))
    return Package(
        name=slugify(name.replace(":", "-").replace("/", "-").replace(".", "-"))[:80],
        folder=folder,
        files=files,
        card=card_of(checkpoint, name),
        project_id=checkpoint.job.project_id,
        whole="adapter_config.json" not in files,
    )


@contextmanager
def _linked(package: Package) -> Iterator[Path]:
    """A folder with the package's files, gone afterwards."""
    settings.MODELS_DIR.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=settings.MODELS_DIR, prefix=".package."))
    try:
        for name in package.files:
            _link(package.folder / name, folder / name)
        (folder / CARD).write_bytes(package.card)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        target.symlink_to(source)


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)  # which knows files of any size


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
