"""What names of files and keys say: the splits of a data set, in the words that `datasets` looks for."""

import re

WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""https://huggingface.co/docs/datasets/repository_structure"""

_WORD = re.compile(rf"(?:^|[^a-z0-9])({'|'.join(WORDS)})((?:_[a-z0-9]+)*)(?![a-z0-9])", re.ASCII)
MAX_NAME = 50  # characters
NAMED, MAX_SHOWN = 10, 100  # names in a sentence, and their characters


def split_of(name: str) -> str:
    """The split that a path or a key names last, as "train" or "test_gen"; "" for none."""
    found = _WORD.findall(name.lower())
    if not found:
        return ""
    word, more = found[-1]
    return f"{WORDS[word]}{more}"[:MAX_NAME]


def printable(name: str) -> str:
    """A name that a stranger gave, as it may stand in a sentence: without control characters, and not long."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[:MAX_SHOWN])


def listed(names: list[str]) -> str:
    """The first of them, and how many there are besides."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(repr(name[:MAX_SHOWN]) for name in names[:NAMED]) + more
