"""What is different between two texts, in words; in lines where the texts are long."""

import re
from collections.abc import Sequence
from typing import Literal

from rapidfuzz.distance import Indel

WORDS = 5_000  # of each text, spaces and signs counted; longer ones are compared by lines
LINES = 5_000  # of each text; longer ones are not compared
CHARACTERS = 1_000_000  # of each text

Op = Literal["equal", "delete", "insert"]
Piece = tuple[Op, str]
"""A part of both texts, of the first only, or of the second only."""

# Words, runs of spaces, single signs. Chinese and Japanese have no spaces: each character is a word.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|\s+|[^\w\s]"
)


def word_diff(a: str, b: str) -> tuple[Piece, ...] | None:
    """How `b` differs from `a`, in order: what is left without "insert" is `a`, without "delete" `b`.

    None for texts that are too long to be compared.
    """
    if a == b:
        return (("equal", a),) if a else ()
    if max(len(a), len(b)) > CHARACTERS:
        return None
    first, second = _WORD.findall(a), _WORD.findall(b)
    if max(len(first), len(second)) > WORDS:
        first, second = a.splitlines(keepends=True), b.splitlines(keepends=True)
    return _pieces(first, second) if max(len(first), len(second)) <= LINES else None


def _pieces(a: Sequence[str], b: Sequence[str]) -> tuple[Piece, ...]:
    """A change comes as what is deleted, then what is inserted. A space between two changes belongs to them."""
    found: list[Piece] = []
    deleted = inserted = ""
    for code in Indel.opcodes(a, b):
        old, new = "".join(a[code.src_start : code.src_end]), "".join(b[code.dest_start : code.dest_end])
        if code.tag != "equal" or ((deleted or inserted) and old.isspace() and code.src_end < len(a)):
            deleted, inserted = deleted + old, inserted + new
            continue
        found += _change(deleted, inserted)
        deleted = inserted = ""
        found.append(("equal", old))
    return tuple(found + _change(deleted, inserted))


def _change(deleted: str, inserted: str) -> list[Piece]:
    pieces: list[Piece] = [("delete", deleted), ("insert", inserted)]
    return [piece for piece in pieces if piece[1]]
