from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.decorators import display

from apps.accounts.tenant_admin import VisibleFilter, moment
from apps.core.api.streaming import stream
from apps.core.json_lines import escape_separators_in_bytes
from apps.models.admin.page import PagesAdmin
from apps.models.models import ExampleSet, TriedPrompt

SHOWN = 100  # prompts of a set; all are in the download
FETCH = 200  # prompts of a download in memory at a time


@admin.register(ExampleSet)
class ExampleSetAdmin(PagesAdmin):
    """Prompts that were kept from the playground, with each model's answer."""

    templates = "admin/models/exampleset"
    list_display = ("shown_name", "project", "count", moment("created_at", "Created"))
    list_display_links = None
    list_select_related = ("project",)
    list_filter = (("project", VisibleFilter),)
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(prompt_count=Count("prompts"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They are made in the playground."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_add_permission(request) if obj is None else self.may_change(request, obj)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.download_view)
        return [path("<int:pk>/download/", view, name="models_exampleset_download"), *super().get_urls()]

    @display(description="Name", ordering="name")
    def shown_name(self, examples: ExampleSet) -> str:
        url = reverse("admin:models_exampleset_change", args=[examples.pk])
        return format_html('<a class="bs-link" href="{}">{}</a>', url, examples.name)

    @display(description="Prompts", ordering="prompt_count")
    def count(self, examples: Any) -> int:
        return int(examples.prompt_count)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        examples = self.find(request, object_id)
        context = {"examples": examples, "prompts": examples.prompts.all()[:SHOWN]}
        return self.page(request, "detail", examples.name, context)

    def download_view(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        """JSON Lines in the chat format that trainers read: a line for each answer."""
        examples = self.find(request, pk)
        headers = {"Content-Disposition": f'attachment; filename="examples-{examples.pk}.jsonl"'}
        lines = stream(partial(_lines, examples))
        return StreamingHttpResponse(lines, content_type="application/jsonl", headers=headers)


def _lines(examples: ExampleSet) -> Iterator[bytes]:
    """In pages, since the client may take its time."""
    prompts = TriedPrompt.objects.filter(example_set=examples).order_by("pk")
    page = list(prompts[:FETCH])
    while page:
        for prompt in page:
            yield from _lines_of(prompt)
        page = list(prompts.filter(pk__gt=page[-1].pk)[:FETCH])


def _lines_of(prompt: TriedPrompt) -> Iterator[bytes]:
    for model, answer in prompt.answers.items():
        conversation = [*prompt.messages, {"role": "assistant", "content": answer}]
        line = {"messages": conversation, "model": model, "parameters": prompt.parameters}
        yield escape_separators_in_bytes(json.dumps(line, ensure_ascii=False).encode()) + b"\n"
