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
