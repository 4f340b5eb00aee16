"""Secrets that the server makes for itself on first use."""

import os
import secrets
from pathlib import Path


def file_secret(path: Path) -> str:
    """The secret kept in `path` (mode 0600), made on first use; safe when two processes start at once."""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    try:
        os.link(draft, path)  # fails where another process was first: both then read the same secret
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()
