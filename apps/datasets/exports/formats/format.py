"""What every format is made of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An example with one answer, or with a better and a worse one."""

    number: int
    """The example's."""
    messages: list[dict[str, Any]]
    """OpenAI's chat messages, up to the question."""
    answer: str
    """Of a pair, the better one."""
    rejected: str = ""
    """Of a pair, the worse one."""
    source: str = ""
    """Whose answer it is: a column's label, or "reference"."""
    part: str = "train"
    key: str = ""
    tags: list[str]
    tools: list[Any] | None = None
    """As the example came with them, in OpenAI's shape."""


class Unfit(Exception):
    """The format has no place for what this row holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a format may need besides the rows."""

    scratch: Path
    """A folder for drafts; whoever gave it removes it."""
    about: Callable[[], dict[str, Any]]
    """The manifest without the file itself. Its counts are right once the last row was taken."""
    pairs: bool
    """Whether the rows are pairs."""
    leave_out: Callable[[Row], None]
    """To be told of each row that the format has no place for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    name: str
    title: str
    what_for: str
    """One line for people who choose."""
    suffix: str
    """Of the file's name."""
    purpose: str
    """OpenAI's word for what the file is for."""
    answers: bool
    """It takes rows with one answer."""
    pairs: bool
    """It takes pairs."""
    write: Callable[[Iterable[Row], Setting], Iterator[bytes]]
    """The file's bytes in pieces; takes rows as it goes, and holds a bounded number of them."""
