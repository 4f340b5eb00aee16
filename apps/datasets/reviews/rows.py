"""What a page of a matrix is made of: plain values, no rows of the database. Texts are raw, never HTML."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.batches.answers import Incomplete
from apps.conversations.conversation import ToolCall
from apps.datasets.reviews.differences import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    text: str
    characters: int  # of the whole
    cut: bool  # the whole is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    answer: int  # the id of the edit's own row
    author: str
    mine: bool
    text: Text
    reasoning: Text
    calls: tuple[ToolCall, ...]
    rating: int | None  # the reviewer's
    thumb: str  # the reviewer's: up, down or empty
    stars: tuple[str, ...]  # usernames
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer of a model, with what was decided about it."""

    answer: int
    sample: int  # from 0
    text: Text
    reasoning: Text
    calls: tuple[ToolCall, ...]
    error: str  # why there is no answer
    finish_reason: str
    incomplete: Incomplete | None  # why it should not be learned from as it is
    input_tokens: int
    output_tokens: int
    latency_ms: int
    rating: int | None  # the reviewer's
    thumb: str  # the reviewer's: up, down or empty
    score: int | None  # of the run's latest judge, 1 to 5
    stars: tuple[str, ...]  # usernames
    edit: Edit | None  # the reviewer's, or else the latest
    edits: int
    same: bool  # its text and calls are the baseline's; never of the baseline itself
    diff: tuple[Piece, ...] | None  # against the baseline, where asked for, and both are short enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    column: int  # position
    samples: tuple[Sample, ...]  # none: nothing has come yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A verdict of the reviewer on two answers."""

    left: int
    right: int
    verdict: str
    blind: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    number: int
    example: int  # its id
    prompt: Text
    messages: tuple[dict[str, Any], ...]  # empty where they are too long to show
    beside: dict[str, Any]  # what a request has beside messages, such as tools; empty where it is too long to show
    reference: Text
    reference_messages: tuple[dict[str, Any], ...]  # where the text does not say all of it, and they are not too long
    tags: tuple[str, ...]
    cells: tuple[Cell, ...]  # one for each column, in order
    state: str  # of the reviewer's review
    note: str
    locked_by: str  # a username; empty when nobody has it
    stars: tuple[tuple[int, str], ...]  # answer, username
    preferences: tuple[Compared, ...]
    differs: bool
    rejected: bool
    reviews: int  # reviewers who have decided


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnHead:
    column: int  # position
    id: int
    label: str
    model_name: str
    answered: int
    failed: int
    incomplete: int
    blank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    columns: tuple[ColumnHead, ...]
    baseline: int | None  # position
    rows: tuple[Row, ...]
    after: int | None  # the number to ask the next page with; None: there is no next one


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    value: int | None  # None: it takes too long to say
    more: bool

    def __str__(self) -> str:
        return "many" if self.value is None else f"{self.value:,}{'+' if self.more else ''}"
