"""What people type, before it is kept or searched for."""

from collections.abc import Sequence

from apps.core.errors import DomainError

TAGS = 20  # of an example
TAG_CHARACTERS = 50


def checked(text: str, *, longest: int, param: str) -> str:
    """The text itself. Raises `DomainError` if it is too long, or has what PostgreSQL cannot keep."""
    if len(text) > longest:
        raise DomainError(f"'{param}' has at most {longest:,} characters; this has {len(text):,}.", param=param)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise DomainError(f"'{param}' holds NUL or broken characters. Leave them out.", param=param)
    return text


def tag(text: str, *, param: str = "tag") -> str:
    """Lower case, single spaces: "Too  Long" and "too long" are one tag."""
    return checked(" ".join(text.lower().split()), longest=TAG_CHARACTERS, param=param)


def tags(texts: Sequence[str]) -> list[str]:
    """Each once, in the order given, without empty ones."""
    found = list(dict.fromkeys(filter(None, (tag(text, param="tags") for text in texts))))
    if len(found) > TAGS:
        raise DomainError(f"An example has at most {TAGS} tags; these are {len(found)}.", param="tags")
    return found
