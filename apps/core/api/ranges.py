"""One byte range of a resource that never changes (RFC 9110 §14); several at once are answered with the whole."""

import re
from dataclasses import dataclass

BYTES = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Unsatisfiable(ValueError):
    """The range lies outside of the resource."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    start: int
    end: int
    """The first byte that is not in it."""


def parse(header: str, size: int) -> ByteRange | None:
    """What a Range header asks of `size` bytes; None where it is to be ignored. Raises `Unsatisfiable`."""
    match = BYTES.fullmatch(header.replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        if not int(last) or not size:
            raise Unsatisfiable
        return ByteRange(max(size - int(last), 0), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return ByteRange(int(first), min(int(last) + 1, size) if last else size)
