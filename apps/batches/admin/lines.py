"""A page of a batch's lines, as fast on line 900,000 as on line 1: keyset, no OFFSET, no COUNT.

A shard's counts say where lines of a kind can be, so that three failed lines among a million are found at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Case, Exists, F, Func, IntegerField, OuterRef, Q, TextField, Value, When
from django.db.models.lookups import LessThanOrEqual
from django.utils.text import Truncator

from apps.batches.models import Batch, Request, Result, Shard
from apps.batches.texts import answer_text, parsed, prompt_text

PAGE = 50  # lines
PREVIEW_BYTES = 128 * 1024  # longer bodies are not read for a table's cell
CELL = 220  # characters

PLACES = {
    "completed": Q(completed__gt=0),
    "failed": Q(failed__gt=0),
    "pending": Q(lines__gt=F("completed") + F("failed")),
}
"""What a line can be, and which shards hold such lines."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line as the table shows it; `result` is None while it is pending."""

    line: int
    custom_id: str
    prompt: str
    answer: str
    result: Result | None

    @property
    def state(self) -> str:
        if self.result is None:
            return "pending"
        return "failed" if self.result.failed else "completed"


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    after: int | None
    """Where the next page starts; None on the last one."""


def read_page(batch: Batch, *, state: str = "", search: str = "", after: int = 0) -> Page:
    """The first PAGE lines behind `after`, of one `state` (see PLACES) and with `search` in their custom_id."""
    found = _find(batch, state, search, after)
    lines = found[:PAGE]
    requests = Request.objects.filter(batch=batch, line__in=lines).order_by("line").annotate(preview=_preview())
    results = Result.objects.filter(batch=batch, line__in=lines).annotate(preview=_preview()).defer("body")
    by_line = {result.line: result for result in results}
    rows = [_row(request, by_line.get(request.line)) for request in requests.defer("body")]
    return Page(rows, lines[-1] if len(found) > PAGE else None)


def _find(batch: Batch, state: str, search: str, after: int) -> list[int]:
    """The numbers of those lines, and of the one that follows them."""
    wanted = Q(batch=batch, line__gt=after)
    if search:
        wanted &= Q(custom_id__contains=search)
    if state in PLACES:
        wanted &= _places(batch, state, after)
    if state == "pending":
        wanted &= Q(~Exists(Result.objects.filter(batch=batch, line=OuterRef("line"))))
    ended = state in ("completed", "failed")
    rows = Result.objects.filter(failed=state == "failed") if ended else Request.objects.all()
    return list(rows.filter(wanted).order_by("line").values_list("line", flat=True)[: PAGE + 1])


def _places(batch: Batch, state: str, after: int) -> Q:
    """The runs of lines where such ones are: enough of them for a page, since each but the first holds one or more."""
    shards = Shard.objects.filter(PLACES[state], batch=batch, last_line__gt=after).order_by("first_line")
    runs = shards.values_list("first_line", "last_line")[: PAGE + 2]
    return reduce(or_, (Q(line__range=run) for run in runs), Q(pk__in=()))


def _preview() -> Case:
    """The body unless it is long; its size is known without reading it."""
    size = Func(F("body"), function="octet_length", output_field=IntegerField())
    short = When(LessThanOrEqual(size, PREVIEW_BYTES), then=F("body"))
    return Case(When(body__isnull=True, then=Value("")), short, output_field=TextField())


def _row(request: Any, result: Any | None) -> Row:
    answer = ""
    if result is not None:
        answer = result.error_message or _short(result.preview, answer_text)
    return Row(request.line, request.custom_id, _short(request.preview, prompt_text), answer, result)


def _short(body: str | None, read: Callable[[Any], str]) -> str:
    if body is None:
        return "(long: open the line to read it)"
    return Truncator(read(parsed(body))).chars(CELL)
