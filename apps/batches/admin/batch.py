from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.accounts.models import Project
from apps.accounts.tenant_admin import DaysFilter, TenantAdmin, VisibleFilter, moment, projects_where
from apps.batches.admin import pages
from apps.batches.admin.file import attachment, download
from apps.batches.admin.forms import NewBatchForm
from apps.batches.admin.verbs import VERBS
from apps.batches.models import Batch, File
from apps.core.errors import DomainError


@admin.register(Batch)
class BatchAdmin(TenantAdmin):
    """The list, and the pages of one batch; what these show is in `pages`."""

    list_display = ("shown_uid", "progress", "target", "project", "priority", moment("created_at", "Created"))
    list_display_links = None
    list_select_related = ("project",)
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("model", VisibleFilter),
        ("project", VisibleFilter),
        ("created_at", DaysFilter),
    )
    search_fields = ("uid", "model_name", "metadata")
    search_help_text = "Id, model, or anything in the metadata"
    actions = ("pause", "resume", "retry", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).with_progress()  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(f"<int:pk>/{route}", self.admin_site.admin_view(view), name=f"batches_batch_{name}")

        return [
            page("lines/<int:line>/", self.line_view, "line"),
            page("download/<str:kind>/", self.download_view, "download"),
            page("do/<str:verb>/", require_POST(self.verb_view), "do"),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No field is edited by hand: what can be done has a verb."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request)

    # The list

    @display(description="Batch", ordering="id")
    def shown_uid(self, batch: Batch) -> str:
        url = reverse("admin:batches_batch_change", args=[batch.pk])
        return format_html(
            '<a class="bs-id" href="{}">{}…</a><button type="button" class="bs-copy" data-copy="{}" '
            'title="Copy the whole id">content_copy</button>',
            url, batch.uid[:14], batch.uid,
        )  # fmt: skip

    @display(description="Progress")
    def progress(self, batch: Any) -> str:
        return render_to_string("admin/batches/batch/progress.html", {"progress": pages.progress_of(batch)})

    @display(description="Model", ordering="model_name", header=True)
    def target(self, batch: Batch) -> tuple[str, str]:
        return batch.model_name or ("not known yet" if batch.status in Batch.OPEN else "no model"), batch.endpoint

    @admin.action(description="Pause", permissions=["act"])
    def pause(self, request: HttpRequest, batches: QuerySet[Any]) -> None:
        self._do("pause", request, batches)

    @admin.action(description="Resume", permissions=["act"])
    def resume(self, request: HttpRequest, batches: QuerySet[Any]) -> None:
        self._do("resume", request, batches)

    @admin.action(description="Retry failed lines", permissions=["act"])
    def retry(self, request: HttpRequest, batches: QuerySet[Any]) -> None:
        self._do("retry", request, batches)

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, batches: QuerySet[Any]) -> None:
        self._do("cancel", request, batches)

    def _do(self, verb: str, request: HttpRequest, batches: QuerySet[Any]) -> None:
        for batch in batches.select_related("project", "model", "created_by"):
            if not self.may_change(request, batch):
                messages.error(request, f"{batch}: as a viewer of {batch.project} you may not change it.")
                continue
            try:
                messages.success(request, VERBS[verb].run(batch))
            except DomainError as error:
                messages.warning(request, f"{batch}: {error.message}")

    # One batch

    def find(self, request: HttpRequest, pk: object) -> Any:
        """The batch with its counts, or a 404."""
        batch = self.get_object(request, str(pk))
        if batch is None:
            raise Http404("No such batch.")
        return batch

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        batch = self.find(request, unquote(object_id))
        offered = {name: verb for name, verb in VERBS.items() if verb.offered(batch)}
        context = {
            **pages.detail(batch, request.GET),
            "verbs": offered if self.may_change(request, batch) else {},
        }
        return self._page(request, "detail", batch.uid, context)

    def line_view(self, request: HttpRequest, pk: int, line: int) -> TemplateResponse:
        batch = self.find(request, pk)
        return self._page(request, "line", f"Line {line}", pages.line(batch, line))

    def download_view(self, request: HttpRequest, pk: int, kind: str) -> HttpResponseBase:
        batch = self.find(request, pk)
        if kind == "input":
            return download(File.objects.filter(uid=batch.input_file_id, project=batch.project).first())
        if kind not in ("output", "errors"):
            raise Http404("No such download.")
        file = batch.output_file if kind == "output" else batch.error_file
        if file is None:  # not sealed yet: what there is of it comes from the rows
            return attachment(pages.lines_so_far(batch, failed=kind == "errors"), f"{batch.uid}_{kind}.jsonl")
        return download(file)

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        batch = self.find(request, pk)
        if verb not in VERBS:
            raise Http404("No such action.")
        self._do(verb, request, self.get_queryset(request).filter(pk=batch.pk))
        return HttpResponseRedirect(reverse("admin:batches_batch_change", args=[batch.pk]))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise Http404("There is no project where you may start a batch.")
        projects = Project.objects.filter(pk__in=projects_where(request, self.roles))
        form = NewBatchForm(request.POST or None, request.FILES or None, projects=projects)
        if form.is_valid() and (batch := form.create()):
            messages.success(request, f"{batch} is being validated.")
            return HttpResponseRedirect(reverse("admin:batches_batch_change", args=[batch.pk]))
        return self._page(request, "new", "New batch", {"form": form})

    def _page(self, request: HttpRequest, name: str, title: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        common = {**self.admin_site.each_context(request), "model_admin": self, "title": title}
        return TemplateResponse(request, f"admin/batches/batch/{name}.html", {**common, **context})
