"""What every format is made of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from apps.conversations.codecs import CannotHold
from apps.conversations.conversation import Conversation

USES = (
    "reasoning_content", "tool_calls", "tool_call_id", "name", "weight", "parts", "turns", "tools",
    "parallel_tool_calls", "chat_template_kwargs",
)  # fmt: skip
"""What an example may hold besides a role and a text in each message: fields of messages, parts of contents, earlier
turns of the assistant's, and what stands beside the messages."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An example with one answer, or with a better and a worse one."""

    number: int
    """The example's."""
    place: int = 0
    """Among the rows of one example."""
    conversation: Conversation | None
    """None: the example cannot be read, as `unfit` says."""
    unfit: str = ""
    source: str = ""
    """Whose answer it is: a column's label, or "reference"."""
    part: str = "train"

    def held(self) -> Conversation:
        """Raises `CannotHold`."""
        if self.conversation is None:
            raise CannotHold(self.unfit)
        return self.conversation


class Kind(StrEnum):
    """What the rows of an export hold."""

    ANSWERS = "answers"
    """One answer each."""
    PAIRS = "pairs"
    """A better and a worse one."""
    LABELS = "labels"
    """One answer each, good or bad: `chosen` or `rejected` of its conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a format may need besides the rows."""

    scratch: Path
    """A folder for drafts; whoever gave it removes it."""
    about: Callable[[], dict[str, Any]]
    """The manifest without the file itself. Its counts are right once the last row was taken."""
    kind: Kind
    uses: frozenset[str] = frozenset()
    """What some of the rows hold besides a role and a text in each message: see `USES`."""
    special: Callable[[frozenset[str]], Iterable[Row]] = lambda uses: ()
    """Rows with some of these uses, read anew: one of each kind at least. They are among the rows too."""
    leave_out: Callable[[Row, str], None]
    """To be told of each row that the format cannot hold, and what it has no place for."""


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
    kinds: frozenset[Kind]
    """The kinds of rows that it takes."""
    write: Callable[[Iterable[Row], Setting], Iterator[bytes]]
    """The file's bytes in pieces; takes rows as it goes, and holds a bounded number of them."""

    @property
    def answers(self) -> bool:
        return Kind.ANSWERS in self.kinds

    @property
    def pairs(self) -> bool:
        return Kind.PAIRS in self.kinds

    @property
    def labels(self) -> bool:
        return Kind.LABELS in self.kinds
