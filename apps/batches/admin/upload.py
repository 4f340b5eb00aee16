from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.accounts.tenant_admin import TenantAdmin, VisibleFilter, moment
from apps.batches.models import Upload
from apps.batches.uploads import cancel_upload
from apps.core.errors import DomainError


@admin.register(Upload)
class UploadAdmin(TenantAdmin):
    """Large files that come in parts, through the API: how much of each is here, and what it takes of the disk."""

    list_display = (
        "shown_name", "state", "received", "purpose", "project",
        moment("created_at", "Begun"), moment("expires_at", "Until"),
    )  # fmt: skip
    list_display_links = None
    list_select_related = ("project", "file")
    list_filter = (("status", ChoicesDropdownFilter), ("project", VisibleFilter))
    search_fields = ("uid", "filename")
    actions = ("cancel",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(here=Coalesce(Sum("parts__bytes"), 0))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They come through the API."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request)

    @admin.action(description="Cancel, and delete their parts", permissions=["act"])
    def cancel(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        for upload in uploads:
            if not self.may_change(request, upload):
                messages.error(request, f"{upload} is in a project that you may only look at.")
                continue
            try:
                cancel_upload(upload=upload)
                messages.success(request, f"{upload.filename} ({upload}) is cancelled.")
            except DomainError as error:
                messages.warning(request, f"{upload}: {error.message}")

    @display(description="Filename", ordering="filename")
    def shown_name(self, upload: Upload) -> str:
        if upload.file_id is None:
            return format_html('<span title="{}">{}</span>', upload.uid, upload.filename)
        url = reverse("admin:batches_file_change", args=[upload.file_id])
        return format_html('<a class="bs-link" href="{}" title="{}">{}</a>', url, upload.uid, upload.filename)

    @display(description="Status", ordering="status")
    def state(self, upload: Upload) -> str:
        label = upload.get_status_display()
        return format_html('<span class="bs-pill" data-status="{0}" title="{1}">{0}</span>', upload.status, label)

    @display(description="Received")
    def received(self, upload: Any) -> str:
        """Parts may be sent again: together they may have more than the file."""
        if upload.status != Upload.Status.PENDING:
            return filesizeformat(upload.bytes)
        return f"{filesizeformat(upload.here)} of {filesizeformat(upload.bytes)}"
