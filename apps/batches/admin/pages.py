"""What the pages of one batch show, as plain values for their templates."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.shortcuts import get_object_or_404

from apps.batches.admin import lines
from apps.batches.models import Batch, File, Request, Result
from apps.batches.output import output_so_far
from apps.batches.progress import current, snapshot_of
from apps.batches.texts import answer_text, parsed, prompt_text, reasoning_text
from apps.core import attempts
from apps.core.api.streaming import stream
from apps.events.rates import Rates

SHOWN_CHARACTERS = 200_000  # of one body; the rest is in the downloads

STEPS = (
    ("created_at", "created"),
    ("in_progress_at", "started"),
    ("finalizing_at", "answered"),
    ("cancelling_at", "cancelling"),
    ("completed_at", "completed"),
    ("failed_at", "failed"),
    ("expired_at", "expired"),
    ("cancelled_at", "cancelled"),
)


@dataclass(frozen=True, slots=True)
class Body:
    """One side of a line: `text` for reading, `raw` for looking closely."""

    text: str
    raw: str
    cut: bool
    reasoning: str = ""
    """Of an answer: what the model thought before."""


def progress_of(batch: Any) -> dict[str, Any]:
    """The first state of a progress bar, which the socket then moves on. The batch was read `with_progress`."""
    return _with_shares(snapshot_of(batch))


def _with_shares(snapshot: dict[str, Any]) -> dict[str, Any]:
    total = snapshot["total"] or 1
    shares = {f"{part}_share": f"{100 * snapshot[part] / total:.2f}" for part in ("completed", "failed")}
    return {**snapshot, **Rates().of(snapshot), **shares}


def detail(batch: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """The batch page, with the page of lines that `query` asks for (state, q, after)."""
    state, search = query.get("state", ""), query.get("q", "").replace("\0", "").strip()
    after = query.get("after", "")[:10]
    page = lines.read_page(batch, state=state, search=search, after=int(after) if after.isdecimal() else 0)
    return {
        "batch": batch,
        "progress": _with_shares(current(batch)),
        "timeline": timeline(batch),
        "by_server": any(error["code"] == attempts.CODE for error in batch.errors or ()),
        "retries": batch.retries.order_by("id"),
        "input_file": File.objects.filter(uid=batch.input_file_id, project=batch.project_id).first(),
        "page": page,
        "states": ("", *lines.PLACES),
        "state": state,
        "search": search,
        "after": after,
    }


def timeline(batch: Batch) -> list[tuple[str, datetime]]:
    """What happened when, in order; of an open batch, the end of its window too."""
    steps = [(label, moment) for field, label in STEPS if (moment := getattr(batch, field))]
    if batch.status in Batch.OPEN:
        steps.append(("expires", batch.expires_at))
    return sorted(steps, key=lambda step: step[1])


def line(batch: Batch, number: int) -> dict[str, Any]:
    request = get_object_or_404(Request, batch=batch, line=number)
    result = Result.objects.filter(batch=batch, line=number).first()
    return {
        "batch": batch,
        "line": number,
        "custom_id": request.custom_id,
        "request_body": _body(request.body, prompt_text),
        "result": result,
        "answer": _body(result.body, answer_text, reasoning_text) if result and result.body else None,
        "previous": Request.objects.filter(batch=batch, line__lt=number).order_by("-line").values_list("line").first(),
        "next": Request.objects.filter(batch=batch, line__gt=number).order_by("line").values_list("line").first(),
    }


def _body(text: str, read: Callable[[Any], str], thoughts: Callable[[Any], str] = lambda _: "") -> Body:
    value = parsed(text)
    raw = text if value is None else json.dumps(value, indent=2, ensure_ascii=False)
    shown, reasoning = read(value)[:SHOWN_CHARACTERS], thoughts(value)[:SHOWN_CHARACTERS]
    return Body(shown, raw[:SHOWN_CHARACTERS], len(raw) > SHOWN_CHARACTERS, reasoning)


def lines_so_far(batch: Batch, *, failed: bool) -> AsyncIterator[bytes]:
    """The output or error file as far as it is known, streamed from the rows."""
    return stream(partial(output_so_far, batch, failed=failed))
