"""How much there is in a training file, as far as it can be told at once: for the form of a new fine-tuning."""

from __future__ import annotations

from django.core.files.storage import default_storage

from apps.batches.models import File
from apps.training.files.tokens import CHARACTERS_PER_TOKEN
from apps.training.presets import Data

COUNTED = 16 * 2**20  # bytes of a file whose lines are counted; of a longer one the rest is reckoned from them
BLOCK = 2**20
BESIDES = 70  # bytes of a row that are no text: the names of its keys


def data_of(file: File, rows: int, left: int) -> Data:
    """Of a file of so many rows, the part of `left` rows; tokens by its size."""
    text = max(file.bytes - BESIDES * rows, 0) * left / max(rows, 1)
    return Data(left, round(text / CHARACTERS_PER_TOKEN), exact=False)


def lines_of(file: File) -> tuple[int, bool]:
    """Its lines, and whether all of them were counted."""
    name, lines, read = file.content.name or "", 0, 0
    last = b"\n"
    try:
        with default_storage.open(name, "rb") as content:
            while read < COUNTED and (block := content.read(BLOCK)):
                lines, read, last = lines + block.count(b"\n"), read + len(block), block
    except OSError:
        return 0, False
    if read < file.bytes:
        return round(lines * file.bytes / read), False
    return lines + (not last.endswith(b"\n")), True
