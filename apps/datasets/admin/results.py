"""What a run's reviews say: which model wins, how ratings spread, who agrees with whom, how far everybody is."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from apps.accounts.tenant_admin import signed_in
from apps.datasets.models import Run
from apps.models.admin.page import PagesAdmin


class Results:
    """Its views, for an admin of runs."""

    def __init__(self, pages: PagesAdmin) -> None:
        self._pages = pages

    def urls(self) -> list[URLPattern]:
        def view(route: str, function: Any, name: str) -> URLPattern:
            return path(
                f"<int:pk>/results/{route}", self._pages.admin_site.admin_view(function), name=f"datasets_run_{name}"
            )

        return [view("", self.page, "results")]

    def page(self, request: HttpRequest, pk: int) -> TemplateResponse:
        run = Run.objects.visible_to(signed_in(request)).filter(pk=pk).first()
        if run is None:
            raise Http404("No such run.")
        return self._pages.page(request, "../review/results", f"Results of {run}", {"run": run})
