from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_GET, require_POST
from unfold.decorators import display
from unfold.views import ChangeList

from apps.accounts.models import Project
from apps.accounts.tenant_admin import DaysFilter, VisibleFilter, moment, projects_where, signed_in
from apps.datasets import services
from apps.datasets.admin import dataset_page
from apps.datasets.admin.dataset_verbs import DatasetVerbs
from apps.datasets.admin.forms import DatasetForm, NewDatasetForm
from apps.datasets.admin.upload import Uploads
from apps.datasets.models import Dataset, DuplicateSearch, Example, Run, Star, Version
from apps.datasets.reviews.rendering import visible
from apps.models.admin.page import PagesAdmin

SHOWN_CHARACTERS = 200_000  # of each text of an example


class DatasetList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """With the stars of the datasets on this page, in one query."""
        super().get_results(request)
        rows = Star.objects.filter(example__dataset__in=[dataset.pk for dataset in self.result_list])
        counts = dict(rows.values_list("example__dataset").annotate(count=Count("pk")))
        for dataset in self.result_list:
            dataset.stars = counts.get(dataset.pk, 0)


@admin.register(Dataset)
class DatasetAdmin(PagesAdmin):
    """The list, and the pages of one dataset; uploads and verbs have modules of their own."""

    templates = "admin/datasets/dataset"
    list_display = ("shown_name", "shown_project", "examples", "runs", "stars", moment("created_at", "Created"))
    list_display_links = None
    list_select_related = ("project",)
    list_filter = (("project", VisibleFilter), ("created_at", DaysFilter))
    search_fields = ("name", "description", "uid")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_counts(super().get_queryset(request).select_related("project", "created_by"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return DatasetList

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(f"<int:pk>/{route}", self.admin_site.admin_view(view), name=f"datasets_dataset_{name}")

        return [
            page("edit/", self.edit_view, "edit"),
            page("examples/<int:number>/", require_GET(self.example_view), "example"),
            page("duplicates/<int:search>/", require_GET(self.duplicates_view), "duplicates"),
            page("do/<str:verb>/", require_POST(DatasetVerbs(self).view), "do"),
            *Uploads(self).urls(),
            *super().get_urls(),
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Django's own deletion would read every example first; the page has a button."""
        return False

    # The list

    @display(description="Dataset", ordering="name", header=True)
    def shown_name(self, dataset: Dataset) -> tuple[str, str]:
        url = reverse("admin:datasets_dataset_change", args=[dataset.pk])
        return format_html('<a class="bs-link" href="{}">{}</a>', url, dataset.name), visible(dataset.description[:80])

    @display(description="Project", ordering="project__name")
    def shown_project(self, dataset: Dataset) -> Project:
        return dataset.project

    @display(description="Examples")
    def examples(self, dataset: Any) -> str:
        return f"{dataset.latest_examples:,}"

    @display(description="Runs")
    def runs(self, dataset: Any) -> str:
        return f"{dataset.run_count:,}"

    @display(description="Stars")
    def stars(self, dataset: Any) -> str:
        return f"{dataset.stars:,}"

    # One dataset

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise Http404("There is no project for which you may make datasets.")
        projects = Project.objects.filter(pk__in=projects_where(request, self.roles))
        form = NewDatasetForm(request.POST or None, projects=projects)
        if form.is_valid() and (dataset := form.attempt(services.create_dataset, created_by=signed_in(request))):
            return HttpResponseRedirect(reverse("admin:datasets_dataset_upload", args=[dataset.pk]))
        return self.page(request, "edit", "New dataset", {"form": form, "button": "Create"})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        dataset = self.find(request, object_id)
        context = {
            "dataset": dataset,
            "may_change": self.may_change(request, dataset),
            **dataset_page.detail(dataset, request.GET.dict()),
        }
        return self.page(request, "detail", dataset.name, context)

    def edit_view(self, request: HttpRequest, pk: int) -> Any:
        dataset = self.find(request, pk)
        if not self.may_change(request, dataset):
            raise Http404("No such page.")
        initial = {name: getattr(dataset, name) for name in DatasetForm.base_fields}
        form = DatasetForm(request.POST or None, initial=initial)
        if form.is_valid() and form.attempt(services.update_dataset, dataset=dataset):
            return HttpResponseRedirect(reverse("admin:datasets_dataset_change", args=[pk]))
        return self.page(request, "edit", dataset.name, {"form": form, "button": "Save", "dataset": dataset})

    def example_view(self, request: HttpRequest, pk: int, number: int) -> TemplateResponse:
        dataset = self.find(request, pk)
        example = Example.objects.filter(dataset=dataset, number=min(number, dataset_page.INTEGER)).first()
        if example is None or not Version.objects.filter(dataset=dataset, number__gte=example.added_in).exists():
            raise Http404("No such example.")
        context = {"dataset": dataset, "example": example, **_texts(example)}
        return self.page(request, "example", f"Example {number}", context)

    def duplicates_view(self, request: HttpRequest, pk: int, search: int) -> TemplateResponse:
        dataset = self.find(request, pk)
        rows = DuplicateSearch.objects.filter(version__dataset=dataset, pk=search).select_related("version")
        found = rows.first()
        if found is None:
            raise Http404("No such search.")
        context = {
            "dataset": dataset,
            "may_change": self.may_change(request, dataset),
            **dataset_page.pairs(found, request.GET.dict()),
        }
        return self.page(request, "duplicates", f"Duplicates in {found.version}", context)

    def back(self, request: HttpRequest, pk: int, error: str = "", done: str = "") -> HttpResponseRedirect:
        """To the dataset's page, with a sentence."""
        if error:
            messages.error(request, error)
        if done:
            messages.success(request, done)
        return HttpResponseRedirect(reverse("admin:datasets_dataset_change", args=[pk]))


def _texts(example: Example) -> dict[str, Any]:
    """What can be read of it, cut, with invisible characters shown."""
    rows = json.loads(example.messages)
    data = json.dumps(json.loads(example.data), indent=2, ensure_ascii=False) if example.data else ""
    return {
        "turns": [(row["role"], visible(_said(row))[:SHOWN_CHARACTERS]) for row in rows],
        "reference": visible(example.reference[:SHOWN_CHARACTERS]),
        "rejected": visible(example.rejected[:SHOWN_CHARACTERS]),
        "data": visible(data[:SHOWN_CHARACTERS]),
    }


def _said(message: dict[str, Any]) -> str:
    content = message.get("content")
    more = {key: value for key, value in message.items() if key not in ("role", "content")}
    text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) if content else ""
    return text + (f"\n{json.dumps(more, indent=2, ensure_ascii=False)}" if more else "")


def with_counts(rows: QuerySet[Any]) -> QuerySet[Any]:
    latest = Version.objects.filter(dataset=OuterRef("pk")).order_by("-number").values("examples")[:1]
    runs = Run.objects.filter(dataset=OuterRef("pk")).order_by().values("dataset").annotate(n=Count("pk")).values("n")
    return rows.annotate(latest_examples=Coalesce(Subquery(latest), 0), run_count=Coalesce(Subquery(runs), 0))
