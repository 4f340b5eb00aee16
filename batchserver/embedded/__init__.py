"""PostgreSQL and Valkey from their wheels: the product's own servers where no real ones are named.

Both listen on UNIX sockets only, so that several stacks never meet on a port. This package knows where the
two live, how they are made and which command starts them; running them is the supervisor's job.
"""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from batchserver.secrets import file_secret

RUN_DIR_MAX = 55  # characters: a socket's path, vLLM's own with a UUID among them, has at most 107
DATABASE = "batchserver"


class StartError(Exception):
    """What stands in the way of a start, as one sentence that says what to do."""


def run_dir(var: Path) -> Path:
    """The folder of the sockets: `var/run`, or one in /tmp where that path is too long for a socket."""
    folder = var / "run"
    if len(str(folder)) < RUN_DIR_MAX:
        return folder
    digest = hashlib.sha256(str(var).encode()).hexdigest()[:12]
    return Path(f"/tmp/batchserver-{os.getuid()}-{digest}")  # noqa: S108  its owner is checked before use


def postgres_dir(var: Path) -> Path:
    """The folder of PostgreSQL's socket."""
    return run_dir(var) / "postgres"


def database_url(var: Path) -> str:
    """The embedded PostgreSQL's address, as libpq and Django read it. Makes the password on first use."""
    return f"postgres://app:{password(var)}@/{DATABASE}?host={quote(str(postgres_dir(var)), safe='')}"


def redis_url(var: Path) -> str:
    """The embedded Valkey's address."""
    return f"unix://{run_dir(var) / 'valkey.sock'}?db=0"


def password(var: Path) -> str:
    return file_secret(var / "secrets" / "postgres")


def make_run_dir(var: Path) -> None:
    """Make the folder of the sockets, which others may pass but not list. Raises StartError."""
    folder = run_dir(var)
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder.lstat().st_uid
    if owner != os.getuid() != 0:
        raise StartError(f"{folder} belongs to user {owner}: remove it, or set VAR_DIR to a folder of yours.")
    folder.chmod(0o711)


def package_dir(package: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None
