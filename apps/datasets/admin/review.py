"""The review page: a run's matrix, its keys, one example at a time. Decisions are POSTs that answer JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, JsonResponse
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_POST

from apps.accounts.tenant_admin import signed_in
from apps.core.errors import DomainError
from apps.datasets.admin import filterbar, progress
from apps.datasets.admin.asked import refused, run_of
from apps.datasets.admin.history import history_of
from apps.datasets.admin.results import Results
from apps.datasets.admin.shown import Showing
from apps.datasets.admin.texts import CHUNK_CHARACTERS, Texts
from apps.datasets.admin.verbs import QUIET, VERBS, Asked, Done, row_of
from apps.datasets.admin.view import View
from apps.datasets.models import Run
from apps.datasets.reviews import assignments, matrix, statistics
from apps.datasets.reviews.filters import Filters
from apps.models.admin.page import PagesAdmin

PAGE_ROWS = 25
FOLDER = "../review"
LOOK_ONLY = "You may look, but not decide. Ask an owner to make you a curator."


class Review:
    """Its views, for an admin of runs."""

    def __init__(self, pages: PagesAdmin) -> None:
        self._pages = pages

    def urls(self) -> list[URLPattern]:
        def view(route: str, function: Any, name: str) -> URLPattern:
            return path(
                f"<int:pk>/review/{route}", self._pages.admin_site.admin_view(function), name=f"datasets_run_{name}"
            )

        return [
            view("", require_GET(self.page), "review"),
            view("rows/", require_GET(self.rows), "review_rows"),
            view("means/", require_GET(self.means), "review_means"),
            view("progress/", require_GET(self.progress), "review_progress"),
            view("next/", require_POST(self.next), "review_next"),
            view("count/", require_GET(self.count), "review_count"),
            view("example/<int:number>/", require_GET(self.example), "review_example"),
            view("do/<str:verb>/", require_POST(self.do), "review_do"),
            *Texts(self._pages).urls(),
            *Results(self._pages).urls(),
        ]

    def page(self, request: HttpRequest, pk: int) -> TemplateResponse:
        run = run_of(request, pk)
        columns = matrix.read_columns(run)
        wrong = ""
        try:
            view = self._view(request, len(columns))
            part = {"rows": []} if view.queue else self._part(request, run, view)
        except DomainError as error:
            view, wrong = View(filters=Filters(show="all")), error.message
            part = {"rows": [], "next": "", "previous": ""}
        heads = [] if view.blind else [_head(head, view, columns) for head in columns]
        context = {
            "run": run, "view": view, "heads": heads, "wrong": wrong, **part,
            "title": f"Blind review of {run.dataset}" if view.blind else run.name,
            "may_change": self._pages.may_change(request, run),
            "bar": filterbar.bar(run, view, signed_in(request), columns), "choices": filterbar.CHOICES,
            "enter": view.address(queue=True, after=0, height="l"), "leave": view.address(queue=False),
            "first": view.address(after=0),
            "setup": self._setup(request, run, view),
        }  # fmt: skip
        return self._pages.page(request, f"{FOLDER}/page", str(context["title"]), context)

    def rows(self, request: HttpRequest, pk: int) -> JsonResponse:
        """The same page without its frame, for scripts: rows as HTML, and where to go on."""
        run = run_of(request, pk)
        try:
            view = self._view(request, run.columns.count())
            part = self._part(request, run, view)
        except DomainError as error:
            return refused(error)
        return JsonResponse({**part, "rows": None, "html": self._html(request, run, view, part["rows"])})

    def count(self, request: HttpRequest, pk: int) -> JsonResponse:
        """How many examples there are, which may take longer than to show the first ones."""
        run = run_of(request, pk)
        try:
            view = self._view(request, run.columns.count())
            found = matrix.count(run, filters=view.filters, reviewer=signed_in(request))
        except DomainError as error:
            return refused(error)
        return JsonResponse({"count": str(found)})

    def means(self, request: HttpRequest, pk: int) -> JsonResponse:
        """Of each column's ratings and thumbs. Counted apart from the page, which has no need to wait for it."""
        run = run_of(request, pk)
        found = zip(statistics.ratings(run), statistics.thumbs(run), strict=True)
        columns = [
            {"column": rated.column, "mean": rated.mean, "ratings": rated.count, "up": each.up, "down": each.down}
            for rated, each in found
            if rated.count or each.up or each.down
        ]
        return JsonResponse({"columns": columns})

    def progress(self, request: HttpRequest, pk: int) -> JsonResponse:
        return JsonResponse(progress.of(run=run_of(request, pk), reviewer=signed_in(request)))

    def next(self, request: HttpRequest, pk: int) -> JsonResponse:
        """The reviewer's next example that nobody works on, with its lock."""
        run, me = run_of(request, pk), signed_in(request)
        if not self._pages.may_change(request, run):
            return refused(DomainError(LOOK_ONLY), 403)
        try:
            view = replace(self._view(request, run.columns.count()), queue=True)
            number = assignments.take_next(reviewer=me, run=run, after=view.after)
        except DomainError as error:
            return refused(error)
        row = row_of(run, number, reviewer=me, **_asked(view)) if number else None
        shown = self._showing(request, run, view).rows([row]) if row else []
        return JsonResponse({"html": self._html(request, run, view, shown), "number": row and row.number})

    def example(self, request: HttpRequest, pk: int, number: int) -> TemplateResponse:
        """One example at full length, with its history: a page, or a panel for scripts."""
        run, me = run_of(request, pk), signed_in(request)
        try:
            view = replace(self._view(request, run.columns.count()), blind=False)
            row = matrix.read_row(run, min(number, 2**31 - 1), reviewer=me, **_asked(view))
            before, after = matrix.neighbours(run, min(number, 2**31 - 1), filters=view.filters, reviewer=me)
        except DomainError as error:
            raise Http404(error.message) from error
        if row is None:
            raise Http404("The run has no such example.")
        context = {
            "run": run, "view": view, "row": self._showing(request, run, view, longest=CHUNK_CHARACTERS).rows([row])[0],
            "history": history_of(row.example), "before": before, "after": after, "address": view.address(),
            "panel": request.GET.get("panel") == "1",
        }  # fmt: skip
        return self._pages.page(
            request, f"{FOLDER}/{'example' if context['panel'] else 'example_page'}", f"Example {number}", context
        )

    def do(self, request: HttpRequest, pk: int, verb: str) -> JsonResponse:
        run, me = run_of(request, pk), signed_in(request)
        if verb not in VERBS:
            raise Http404("No such action.")
        if not self._pages.may_change(request, run):
            return refused(DomainError(LOOK_ONLY), 403)
        try:
            view = self._view(request, run.columns.count())
            done = VERBS[verb](Asked(run, me, _body(request)))
        except DomainError as error:
            return refused(error)
        return JsonResponse(self._said(request, run, view, verb, done))

    def _said(self, request: HttpRequest, run: Run, view: View, verb: str, done: Done) -> dict[str, Any]:
        if verb in QUIET:
            return {"number": done.number}
        row = row_of(run, done.number, reviewer=signed_in(request), **_asked(view))
        shown = self._showing(request, run, view).rows([row]) if row else []
        sentence = done.sentence if done.change or verb == "undo" else "Nothing changed."
        said = {"number": done.number, "sentence": sentence, "change": done.change and done.change.pk}
        return {**said, "html": self._html(request, run, view, shown)}

    def _view(self, request: HttpRequest, columns: int) -> View:
        """What differs is shown first, where anything can differ. In blind mode, filters by column would tell names."""
        view = View.parse(request.GET.dict(), show="differs" if columns > 1 else "all")
        return replace(view, filters=replace(view.filters, column=None, column_is="")) if view.blind else view

    def _part(self, request: HttpRequest, run: Run, view: View) -> dict[str, Any]:
        me = signed_in(request)
        page = matrix.read_page(
            run, filters=view.filters, after=view.after, limit=PAGE_ROWS, reviewer=me, **_asked(view)
        )
        previous = filterbar.previous(run, view, me, PAGE_ROWS) if view.after else None
        return {
            "rows": self._showing(request, run, view, page.columns).rows(page.rows),
            "next": view.address(after=page.after) if page.after is not None else "",
            "previous": view.address(after=previous) if previous is not None else "",
            "address": view.address(),
        }

    def _showing(self, request: HttpRequest, run: Run, view: View, columns: Any = None, **more: Any) -> Showing:
        return Showing(columns or matrix.read_columns(run), view, signed_in(request), run.dataset, **more)

    def _html(self, request: HttpRequest, run: Run, view: View, rows: Any) -> str:
        context = {
            "rows": rows,
            "view": view,
            "may_change": self._pages.may_change(request, run),
            "run": run,
            "first": view.address(after=0),
        }
        return get_template("admin/datasets/review/rows.html").render(context)

    def _setup(self, request: HttpRequest, run: Run, view: View) -> dict[str, Any]:
        """What the scripts need to know. Nothing here names a column."""
        base = reverse("admin:datasets_run_review", args=[run.pk])
        return {
            "base": base, "mayChange": self._pages.may_change(request, run), "me": signed_in(request).username,
            "blind": view.blind, "queue": view.queue, "overlap": run.dataset.overlap,
        }  # fmt: skip


def _asked(view: View) -> dict[str, Any]:
    return {"baseline": view.baseline, "diff": view.diff and not view.blind}


def _head(head: Any, view: View, columns: Any) -> dict[str, Any]:
    baseline = view.baseline if view.baseline is not None else columns[0].column
    return {"head": head, "baseline": head.column == baseline, "address": view.address(baseline=head.column)}


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except RequestDataTooBig as error:
        raise DomainError("This is too much for one request. Shorten the text.") from error
    except (ValueError, RecursionError) as error:
        raise DomainError("The request is not JSON.") from error
    if not isinstance(body, dict):
        raise DomainError("The request is not a JSON object.")
    return body
