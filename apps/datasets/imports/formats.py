"""Which format a file of rows has, told from its first bytes and its name."""

import re
from collections.abc import Callable
from pathlib import PurePath

from apps.core.errors import DomainError
from apps.datasets.imports.json_stream import outline
from apps.datasets.imports.readers import BOM, HEAD
from apps.datasets.imports.unpacking import SUFFIXES as PACKED_SUFFIXES

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
}
ZIP = "zip"
NAMES = sorted({*FORMATS.values(), ZIP})
SUFFIXES = (*FORMATS, *PACKED_SUFFIXES, ".zip")
"""Of the names of files that can be read; the packed ones stand behind the others."""

TURNED = (
    "The file holds a list for each column: write an object for each row, as pandas does with"
    " to_json(orient='records', lines=True)."
)

_LONE_BRACKET = re.compile(rb"^[ \t]*+\{[ \t\r]*+$", re.MULTILINE)
_ARRAY = re.compile(rb"\[\s*(?:[\[{\]\"\-\d]|true|false|null|\Z)")


def suffix_of(filename: str) -> str:
    """ ".csv" of rows.CSV, and of rows.csv.gz."""
    path = PurePath(filename.lower())
    return PurePath(path.stem).suffix if path.suffix in PACKED_SUFFIXES else path.suffix


def format_of(filename: str, look: Callable[[int], bytes], *, row_bytes: int) -> tuple[str, bool]:
    """jsonl, json, csv or parquet; and whether a JSON object around lists of rows begins.

    `look` gives the first bytes of the file. Raises `DomainError` for what is none of them, or cannot be told.
    """
    head = look(HEAD)
    if head.startswith(b"PAR1"):
        return "parquet", False
    text = head.removeprefix(BOM).lstrip()
    known = FORMATS.get(suffix_of(filename), "jsonl")
    if _ARRAY.match(text) and (known != "csv" or text[1:].lstrip()[:1] in (b"{", b"]")):
        return "json", False
    if text.startswith(b"{"):
        return _of_object(text, look, row_bytes)
    if known == "parquet":
        raise DomainError("The file's name ends in .parquet, but it is none.", param="file")
    return ("jsonl" if known == "json" else known), False


def _of_object(text: bytes, look: Callable[[int], bytes], row_bytes: int) -> tuple[str, bool]:
    found = outline(text)
    if not found.whole and len(more := look(row_bytes + HEAD)) > len(text):
        found = outline(more.removeprefix(BOM))  # longer than a row may be: it is none
    if found.turned:
        raise DomainError(TURNED, param="file")
    if found.wraps:
        return "json", True
    return ("json" if found.next_in_line or _goes_on(text) else "jsonl"), False


def _goes_on(text: bytes) -> bool:
    """Whether a value does in the next line: JSON breaks lines behind these marks, and before those."""
    if _LONE_BRACKET.search(text):
        return True
    first, _, rest = text.partition(b"\n")
    return first.rstrip()[-1:] in (b"{", b"[", b",", b":") or rest.lstrip()[:1] in (b"}", b"]", b",", b":")
