"""A page of a batch's lines, as fast on line 900,000 as on line 1: keyset, no OFFSET, no COUNT.

A shard's counts say where lines of a kind can be, so that three failed lines among a million are found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Case, Exists, F, Func, IntegerField, OuterRef, Q, QuerySet, TextField, When
from django.db.models.lookups import LessThanOrEqual
from django.utils.text import Truncator

from apps.batches.admin.texts import answer_text, parsed, prompt_text
from apps.batches.models import Batch, Request, Result, Shard

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
    requests = Request.objects.filter(batch=batch, line__gt=after)
    if state in PLACES:
        requests = _of_state(requests, batch, state, after)
    if search:
        requests = requests.filter(custom_id__contains=search)
    found = list(requests.annotate(preview=_preview()).order_by("line").defer("body")[: PAGE + 1])
    results = _results(batch, [request.line for request in found[:PAGE]])
    rows = [_row(request, results.get(request.line)) for request in found[:PAGE]]
    return Page(rows, rows[-1].line if len(found) > PAGE else None)


def _of_state(requests: QuerySet[Request], batch: Batch, state: str, after: int) -> QuerySet[Request]:
    shards = Shard.objects.filter(PLACES[state], batch=batch, last_line__gt=after).order_by("first_line")
    places = list(shards.values_list("first_line", "last_line")[: PAGE + 2])  # each but the first holds one or more
    if not places:
        return requests.none()
    ended = Result.objects.filter(batch=batch, line=OuterRef("line"))
    wanted = ~Exists(ended) if state == "pending" else Exists(ended.filter(failed=state == "failed"))
    return requests.filter(reduce(or_, (Q(line__range=place) for place in places)), wanted)


def _results(batch: Batch, lines: Sequence[int]) -> dict[int, Any]:
    results = Result.objects.filter(batch=batch, line__in=lines).annotate(preview=_preview()).defer("body")
    return {result.line: result for result in results}


def _preview() -> Case:
    """The body unless it is long; its size is known without reading it."""
    size = Func(F("body"), function="octet_length", output_field=IntegerField())
    return Case(When(LessThanOrEqual(size, PREVIEW_BYTES), then=F("body")), output_field=TextField())


def _row(request: Any, result: Any | None) -> Row:
    answer = ""
    if result is not None:
        answer = result.error_message or _short(result.preview, answer_text)
    return Row(request.line, request.custom_id, _short(request.preview, prompt_text), answer, result)


def _short(body: str | None, read: Callable[[Any], str]) -> str:
    if body is None:
        return "(long: open the line to read it)"
    return Truncator(read(parsed(body))).chars(CELL)
