from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.accounts.tenant_admin import DaysFilter, VisibleFilter, moment
from apps.batches.admin.file import download
from apps.core.errors import DomainError
from apps.datasets.admin import export_choices
from apps.datasets.admin.filterbar import WORDS
from apps.datasets.admin.links import links_of
from apps.datasets.exports import services as exports
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.job import TOPIC, left_out_sentence
from apps.datasets.exports.left_out import asked_for
from apps.datasets.exports.manifest import policy_of
from apps.datasets.jobs import current, snapshot_of
from apps.datasets.models import Export
from apps.datasets.reviews.filters import Filters
from apps.models.admin.page import PagesAdmin


@admin.register(Export)
class ExportAdmin(PagesAdmin):
    """Choose what becomes a file, and watch it being written."""

    templates = "admin/datasets/export"
    list_display = ("shown_format", "shown_dataset", "run", "progress", "rows", "size", moment("created_at", "Created"))
    list_display_links = None
    list_select_related = ("dataset", "run", "file", "project")
    list_filter = (("status", ChoicesDropdownFilter), ("project", VisibleFilter), ("created_at", DaysFilter))
    search_fields = ("uid", "dataset__name", "run__name")
    search_help_text = "Id, dataset or run"

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"datasets_export_{name}")

        return [
            page("count/", require_GET(self.count_view), "count"),
            page("<int:pk>/do/<str:verb>/", require_POST(self.verb_view), "do"),
            page("<int:pk>/download/<str:kind>/", require_GET(self.download_view), "download"),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing of it is edited by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Django's own deletion would leave the files behind."""
        return False

    # The list

    @display(description="Export", ordering="id")
    def shown_format(self, export: Export) -> str:
        url = reverse("admin:datasets_export_change", args=[export.pk])
        return format_html('<a class="bs-link" href="{}">{}</a>', url, title_of(export))

    @display(description="Dataset", ordering="dataset__name", header=True)
    def shown_dataset(self, export: Export) -> tuple[str, str]:
        return export.dataset.name, f"version {export.spec.get('version', '?')}"

    @display(description="Status")
    def progress(self, export: Export) -> str:
        return render_to_string(f"{self.templates}/progress.html", {"progress": snapshot_of(export, TOPIC)})

    @display(description="Size", empty_value="\N{EN DASH}")
    def size(self, export: Export) -> str | None:
        return filesizeformat(export.file.bytes) if export.file else None

    # A new one

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise Http404("There is no project whose datasets you may export.")
        query, said = request.POST if request.method == "POST" else request.GET, ""
        try:
            chosen = export_choices.read(request, query.dict())
            if request.method == "POST":
                export = chosen.start(request)
                return HttpResponseRedirect(reverse("admin:datasets_export_change", args=[export.pk]))
        except DomainError as error:
            said = error.message
            chosen = export_choices.read(request, _without_filters(query.dict(), error))
        return self.page(request, "new", "New export", {**export_choices.offer(request, chosen), "error": said})

    def count_view(self, request: HttpRequest) -> JsonResponse:
        """How many rows the form as it stands would give; or what is wrong with it."""
        if not self.has_add_permission(request):
            raise Http404("There is no project whose datasets you may export.")
        try:
            chosen = export_choices.read(request, request.GET.dict())
            selection = chosen.selection()
            said = left_out_sentence(exports.left_out(selection)).strip()
            told = {"examples": asked_for(selection).count(), **({"left_out": said} if said else {})}
            return JsonResponse({"rows": exports.count(selection), "pairs": selection.pairs, **told})
        except DomainError as error:
            return JsonResponse({"error": error.message})

    # One export

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        export = self.find(request, object_id)
        context = {
            "export": export,
            "progress": current(export, TOPIC),
            "format": FORMATS.get(export.format),
            "answers_are": policy_of(export.spec["answers"]),
            "filters": [f"{WORDS.get(name, name)}: {value}" for name, value in export.spec.get("filters", {}).items()],
            "manifest_text": json.dumps(export.manifest, indent=2, sort_keys=True, ensure_ascii=False),
            "may_change": self.may_change(request, export),
            "links": links_of(request, export),
        }
        return self.page(request, "detail", f"{title_of(export)} of {export.dataset}", context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super()
            .get_queryset(request)
            .select_related(*self.list_select_related, "manifest_file", "left_out_file", "created_by")
        )

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        export = self.find(request, pk)
        if verb not in ("cancel", "delete") or not self.may_change(request, export):
            raise Http404("No such action.")
        try:
            if verb == "delete":
                exports.delete_export(export=export)
                messages.success(request, "The export and its files are deleted.")
                return HttpResponseRedirect(reverse("admin:datasets_export_changelist"))
            if not exports.cancel_export(export=export):
                messages.warning(request, f"It is {export.status}: there is nothing to cancel.")
        except DomainError as error:
            messages.error(request, error.message)
        return HttpResponseRedirect(reverse("admin:datasets_export_change", args=[pk]))

    def download_view(self, request: HttpRequest, pk: int, kind: str) -> HttpResponseBase:
        export = self.find(request, pk)
        return download(
            {"file": export.file, "manifest": export.manifest_file, "left-out": export.left_out_file}.get(kind)
        )


def title_of(export: Export) -> str:
    return FORMATS[export.format].title if export.format in FORMATS else export.format


def _without_filters(query: Mapping[str, str], error: DomainError) -> dict[str, str]:
    """What the page shows again: without the filter that cannot be read."""
    bad = error.param in {each.name for each in fields(Filters)}
    return {name: value for name, value in query.items() if not (bad and name == error.param)}
