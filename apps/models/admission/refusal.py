"""Why something is not admitted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    file: str
    """Its path within the repository or folder; empty for the whole of it."""
    reason: str
    """A sentence for people, with what to do."""


class Refused(ValueError):
    """One file's refusal, raised by the rule that found it; the message is the reason."""


LFS_POINTER = b"version https://git-lfs.github.com/"


def refuse_pointer(beginning: bytes) -> None:
    """Raises `Refused` where a clone without Git LFS left the file's address instead of the file."""
    if len(beginning) >= 8 and (beginning.startswith(LFS_POINTER) or LFS_POINTER.startswith(beginning)):
        raise Refused("It is a pointer of Git LFS, not the file itself: run `git lfs pull` in the clone.")
