from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.views import ChangeList

from apps.accounts.tenant_admin import DaysFilter, VisibleFilter, moment
from apps.core.errors import DomainError
from apps.datasets.admin import run_choices, run_page
from apps.datasets.admin.review import Review
from apps.datasets.admin.run_verbs import RunVerbs
from apps.datasets.imports.formats import SUFFIXES
from apps.datasets.models import Run
from apps.models.admin.page import PagesAdmin


class RunList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """With the progress of the runs on this page, in a constant number of queries."""
        super().get_results(request)
        progress = run_page.progress_of(list(self.result_list))
        for run in self.result_list:
            run.shown = progress[run.pk]


@admin.register(Run)
class RunAdmin(PagesAdmin):
    """Choose examples and models, see what that will take, and watch the answers come in."""

    templates = "admin/datasets/run"
    list_display = ("shown_name", "shown_dataset", "progress", "examples", moment("created_at", "Created"))
    list_display_links = None
    list_select_related = ("dataset", "version", "project")
    list_filter = (("project", VisibleFilter), ("created_at", DaysFilter))
    search_fields = ("name", "uid", "dataset__name")
    search_help_text = "Name, id or dataset"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("dataset", "version", "project", "split", "created_by")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunList

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("estimate/", view(require_POST(self.estimate_view)), name="datasets_run_estimate"),
            path("<int:pk>/do/<str:verb>/", view(require_POST(RunVerbs(self).view)), name="datasets_run_do"),
            *Review(self).urls(),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No field is edited by hand: what can be done has a button."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Django's own deletion would read every answer first; the page has a button."""
        return False

    # The list

    @display(description="Run", ordering="name")
    def shown_name(self, run: Run) -> str:
        url = reverse("admin:datasets_run_change", args=[run.pk])
        return format_html('<a class="bs-link" href="{}">{}</a>', url, run.name)

    @display(description="Dataset", ordering="dataset__name", header=True)
    def shown_dataset(self, run: Run) -> tuple[str, str]:
        part = f", {run.part} of {run.split.name}" if run.split and run.part else ""
        return run.dataset.name, f"version {run.version.number}{part}"

    @display(description="Columns")
    def progress(self, run: Any) -> str:
        return render_to_string(f"{self.templates}/bars.html", {"progress": run.shown})

    @display(description="Examples", ordering="items_total")
    def examples(self, run: Run) -> str:
        return f"{run.items_total:,}"

    # A new one

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise Http404("There is no project whose datasets you may run.")
        chosen = run_choices.read(request, request.POST if request.method == "POST" else request.GET)
        said = ""
        if request.method == "POST":
            try:
                run = chosen.start(request)
                return HttpResponseRedirect(reverse("admin:datasets_run_change", args=[run.pk]))
            except DomainError as error:
                said = error.message
        return self.page(request, "new", "New run", {**run_choices.offer(request, chosen), "error": said})

    def estimate_view(self, request: HttpRequest) -> TemplateResponse:
        """What the form as it stands would take, as a piece of the page; or what is wrong with it."""
        if not self.has_add_permission(request):
            raise Http404("There is no project whose datasets you may run.")
        try:
            context: dict[str, Any] = {"estimate": run_choices.read(request, request.POST).estimate()}
        except DomainError as error:
            context = {"error": error.message}
        return TemplateResponse(request, f"{self.templates}/estimate.html", context)

    # One run

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        run = self.find(request, object_id)
        context = {**run_page.detail(run), "may_change": self.may_change(request, run), "readable": ",".join(SUFFIXES)}
        return self.page(request, "detail", run.name, context)
