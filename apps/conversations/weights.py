"""Whether a message is learned: 0 or 1, as OpenAI and LLaMA-Factory write it; false or true, as axolotl does."""

from typing import Any

from apps.conversations.errors import RowError

NUMBERS = ("weight", "loss_weight")
BOOLEANS = ("train", "training")
KEYS = (*NUMBERS, *BOOLEANS)


def read_weight(given: dict[str, Any], where: str) -> int | None:
    """Of the assistant's message; `where` names it in sentences. Raises `RowError`."""
    found = {key: _read(given[key], key, where) for key in KEYS if key in given}
    if len(set(found.values())) > 1:
        raise RowError(f"{where} has {' and '.join(map(repr, found))}, which differ: remove one.", "two_weights")
    return next(iter(found.values()), None)


def _read(value: Any, key: str, where: str) -> int:
    if value not in (0, 1) or isinstance(value, bool) != (key in BOOLEANS):
        cure = "true or false" if key in BOOLEANS else "0 or 1"
        raise RowError(f"The {key!r} of {where} is {str(value)[:40]!r}: write {cure}.", "invalid_weight")
    return int(value)


def wanted(given: dict[str, Any]) -> list[str]:
    """Of another's message: the keys that would have it learned. A 0 says what is so anyway."""
    return [key for key in KEYS if key in given and given[key] not in (0, False)]
