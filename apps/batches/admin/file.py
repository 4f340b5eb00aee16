from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.files.storage import default_storage
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.accounts.tenant_admin import DaysFilter, TenantAdmin, VisibleFilter, moment
from apps.batches import storage
from apps.batches.models import Batch, File
from apps.batches.services import delete_file


def attachment(content: AsyncIterator[bytes], filename: str) -> StreamingHttpResponse:
    """Stream to a file of the user's; never shown in the browser, since models wrote it."""
    headers = {"Content-Disposition": content_disposition_header(True, filename) or "attachment"}
    return StreamingHttpResponse(content, content_type="application/jsonl", headers=headers)


def download(file: File | None) -> StreamingHttpResponse:
    """Raises `Http404` for a file that is not there any more."""
    name = file.content.name if file else None
    if file is None or not name or not default_storage.exists(name):
        raise Http404("This file does not exist, or has expired.")
    return attachment(storage.open_range(name, 0, file.bytes), file.filename)


NAME = 36  # characters of a name in the list


@admin.register(File)
class FileAdmin(TenantAdmin):
    list_display = (
        "shown_name",
        "shown_uid",
        "purpose",
        "size",
        "project",
        moment("created_at", "Created"),
        moment("expires_at", "Expires"),
    )
    list_select_related = ("project",)
    list_filter = (("purpose", ChoicesDropdownFilter), ("project", VisibleFilter), ("created_at", DaysFilter))
    search_fields = ("uid", "filename")
    actions = ("delete_files",)
    fields = readonly_fields = (
        "uid", "filename", "purpose", "project", "size", "sha256",
        "created_at", "expires_at", "shown_content", "used_by",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Files come with a batch, or through the API."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A file's content never changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_add_permission(request) if obj is None else self.may_change(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Django's own deletion would leave the bytes behind."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def delete_model(self, request: HttpRequest, obj: File) -> None:
        delete_file(file=obj)

    @admin.action(description="Delete the selected files", permissions=["delete"])
    def delete_files(self, request: HttpRequest, files: QuerySet[File]) -> None:
        for file in files:
            if self.may_change(request, file):
                delete_file(file=file)
                messages.success(request, f"{file.filename} ({file}) is deleted.")
            else:
                messages.error(request, f"{file} is in a project that you may only look at.")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.download_view)
        return [path("<int:pk>/download/", view, name="batches_file_download"), *super().get_urls()]

    def download_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        return download(self.get_queryset(request).filter(pk=pk).first())

    @display(description="Filename", ordering="filename")
    def shown_name(self, file: File) -> str:
        """Output files are named after their batch: the end says which they are."""
        name = file.filename
        return format_html(
            '<span title="{}">{}</span>', name, name if len(name) <= NAME else f"{name[:14]}…{name[-16:]}"
        )

    @display(description="Id", ordering="id")
    def shown_uid(self, file: File) -> str:
        return format_html('<span class="bs-id">{}…</span>', file.uid[:13])

    @display(description="Size", ordering="bytes")
    def size(self, file: File) -> str:
        return filesizeformat(file.bytes)

    @display(description="Content")
    def shown_content(self, file: File) -> str:
        url = reverse("admin:batches_file_download", args=[file.pk])
        return format_html('<a class="bs-link" href="{}">Download</a>', url)

    @display(description="Batches", empty_value="none")
    def used_by(self, file: File) -> str | None:
        return (
            _links(
                Batch.objects.filter(
                    Q(input_file_id=file.uid, project=file.project) | Q(output_file=file) | Q(error_file=file)
                )[:20]
            )
            or None
        )


def _links(batches: Iterable[Batch]) -> str:
    pairs = ((reverse("admin:batches_batch_change", args=[batch.pk]), batch.uid) for batch in batches)
    return format_html_join(" ", '<a class="bs-link" href="{}">{}</a>', pairs)
