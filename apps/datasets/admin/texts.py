"""Texts that a page does not hold: the rest of long ones, and what an editor begins with."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Length, Substr
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_GET

from apps.accounts.tenant_admin import signed_in
from apps.core.errors import Conflict, DomainError
from apps.datasets.admin.asked import refused, run_of
from apps.datasets.admin.verbs import ANSWER, edited, row_of
from apps.datasets.admin.view import NUMBER, whole_number
from apps.datasets.models import Answer, Example, Run
from apps.datasets.reviews import pairs, rendering
from apps.models.admin.page import PagesAdmin

CHUNK_CHARACTERS = 100_000  # each time that somebody asks for more
GONE = "This text is not there any more. Load the page again."


class Texts:
    """Their views, for an admin of runs."""

    def __init__(self, pages: PagesAdmin) -> None:
        self._pages = pages

    def urls(self) -> list[URLPattern]:
        text, source = (self._pages.admin_site.admin_view(require_GET(view)) for view in (self.text, self.source))
        return [
            path("<int:pk>/review/text/<int:number>/", text, name="datasets_run_review_text"),
            path("<int:pk>/review/source/<int:answer>/", source, name="datasets_run_review_source"),
        ]

    def text(self, request: HttpRequest, pk: int, number: int) -> JsonResponse:
        """A piece of a long text: of an answer, of a side of a blind pair, of the prompt or the reference."""
        run = run_of(request, pk)
        try:
            start = whole_number(request.GET, "from") or 0
            texts, field = _long(request, run, min(number, NUMBER))
            piece = texts.values_list(Substr(field, start + 1, CHUNK_CHARACTERS), Length(field)).first()
            if piece is None:
                raise Conflict(GONE)
        except DomainError as error:
            return refused(error)
        end = start + CHUNK_CHARACTERS
        return JsonResponse({"text": rendering.visible(piece[0]), "next": end if end < piece[1] else None})

    def source(self, request: HttpRequest, pk: int, answer: int) -> JsonResponse:
        """The text that is edited, and what stands for it when the edit is saved."""
        found = Answer.objects.filter(pk=min(answer, ANSWER), column__run=run_of(request, pk)).first()
        if found is None:
            return refused(Conflict(GONE))
        text, base = edited(found, signed_in(request))
        return JsonResponse({"text": text, "base": base})


def _long(request: HttpRequest, run: Run, number: int) -> tuple[Any, str]:
    """The one row, and its field."""
    field = request.GET.get("field", "")
    if not field or field == "reasoning":
        answers = Answer.objects.filter(pk=_answer(request, run, number), column__run=run)
        return answers.order_by(), field or "text"
    if field not in ("prompt", "reference"):
        raise DomainError("'field' is prompt, reference or reasoning.", param="field")
    return Example.objects.filter(items__run=run, number=number).order_by(), field


def _answer(request: HttpRequest, run: Run, number: int) -> int:
    """Sides of a blind pair have no id that the page knows."""
    side = request.GET.get("side")
    if side not in ("0", "1"):
        return whole_number(request.GET, "answer", most=ANSWER) or 0
    row = row_of(run, number, reviewer=signed_in(request))
    pair = pairs.pair_of(row, signed_in(request)) if row else None
    if pair is None:
        raise Conflict(GONE)
    return (pair.left, pair.right)[int(side)].answer
