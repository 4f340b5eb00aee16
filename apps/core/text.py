"""Text that PostgreSQL can store: no NUL, and no half of a surrogate pair. Names that are misspelt."""

import difflib
import re
from collections.abc import Iterable

MAX_NAME = 100
"""Characters of an unknown name that are repeated."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """The text with U+FFFD where there was a character that cannot be stored."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def unrecognized(path: str, nearest: str = "") -> str:
    """OpenAI's sentence, with the name that was meant if one is like it."""
    guess = f" Did you mean {nearest}?" if nearest else ""
    return f"Unrecognized request argument supplied: {path}.{guess}"


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Empty when none is like it."""
    return (difflib.get_close_matches(name[:MAX_NAME], list(names), 1) or [""])[0]
