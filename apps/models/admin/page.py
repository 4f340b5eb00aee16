"""What the pages of our own beside Django's lists share."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse

from apps.accounts.tenant_admin import TenantAdmin


class PagesAdmin(TenantAdmin):
    """A list of Django's, with pages of our own for one row and for a new one."""

    templates: str
    """Their folder."""

    def find(self, request: HttpRequest, pk: object) -> Any:
        """The row, or a 404."""
        row = self.get_object(request, str(pk))
        if row is None:
            raise Http404("It does not exist.")
        return row

    def page(self, request: HttpRequest, name: str, title: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        common = {**self.admin_site.each_context(request), "model_admin": self, "title": title}
        return TemplateResponse(request, f"{self.templates}/{name}.html", {**common, **context})
