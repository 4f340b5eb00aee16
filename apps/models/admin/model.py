from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.accounts.models import Project
from apps.accounts.tenant_admin import VisibleFilter, moment, projects_where, signed_in
from apps.core.errors import DomainError
from apps.core.owner import owner
from apps.models import demand, services
from apps.models.admin.benchmark import CHARTS
from apps.models.admin.page import PagesAdmin
from apps.models.admin.playground import Playground
from apps.models.benchmarks import services as benchmarks
from apps.models.engines.adapters import try_again
from apps.models.engines.deaths import close_breaker
from apps.models.models import Benchmark, Engine, EngineDeath, Model, Usage
from apps.models.services import register_model

USAGE_DAYS = 30
SHOWN = 5  # of a list on the model's page


class ModelForm(forms.ModelForm[Model]):
    class Meta:
        model = Model
        fields = (
            "name",
            "path",
            "runner",
            "base",
            "project",
            "license",
            "owned_by",
            "engine_settings",
            "sample_prompts",
        )

    def clean_engine_settings(self) -> dict[str, Any]:
        chosen: dict[str, Any] = self.cleaned_data["engine_settings"] or {}
        try:
            services.check_engine_settings(chosen)
        except DomainError as error:
            raise ValidationError(error.message) from error
        return chosen

    def clean_sample_prompts(self) -> list[str]:
        prompts = self.cleaned_data["sample_prompts"] or []
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValidationError('Give a list of texts, for example ["Tell me a story.", "Translate: …"].')
        return prompts

    def clean(self) -> dict[str, Any]:
        """Register the folder here, so that what the service finds wrong stands beside the field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            wanted = {"name": self.instance.name, **cleaned, "path": Path(cleaned["path"])}
            for later in ("engine_settings", "sample_prompts"):
                wanted.pop(later)
            try:
                self.instance = register_model(**wanted)
            except ValueError as error:
                raise ValidationError({"path": str(error)}) from error
        return cleaned


@admin.register(Model)
class ModelAdmin(PagesAdmin):
    """Everybody sees what they may use; only a superuser points the server at folders."""

    templates = "admin/models/model"
    form = ModelForm
    list_display = ("shown_name", "kind", "engine", "size", "shown_project", "license", moment("created_at", "Added"))
    list_select_related = ("base", "project")
    list_filter = (("runner", ChoicesDropdownFilter), ("project", VisibleFilter))
    search_fields = ("name", "path", "source")
    ordering = (Coalesce("base__name", "name"), F("base").asc(nulls_first=True), "name")
    readonly_fields = ("created_at",)
    change_form_outer_before_template = "admin/models/model/about.html"
    change_list_template = "admin/models/model/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        user = signed_in(request)
        rows = Model.objects.prefetch_related("engines")
        if user.is_superuser:
            return rows
        return rows.filter(Q(project=None) | Q(project__in=Project.objects.visible_to(user)))

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("name", "created_at") if obj else ("created_at",)

    def may_change(self, request: HttpRequest, obj: Model) -> bool:
        return signed_in(request).is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A project's own models are its curators' to delete; a list of several is nobody's."""
        if obj is None:
            return False
        return signed_in(request).is_superuser or obj.project_id in projects_where(request, self.roles)

    def get_urls(self) -> list[URLPattern]:
        playground = Playground(self)
        verb = require_POST(self.admin_site.admin_view(self.verb_view))
        return [
            *playground.urls(),
            path("<int:pk>/do/<str:verb>/", verb, name="models_model_do"),
            *super().get_urls(),
        ]

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        model = self.find(request, object_id)
        return super().change_view(
            request, object_id, form_url, {**(extra_context or {}), **self._about(request, model)}
        )

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        model = self.find(request, object_id)
        if not self.has_delete_permission(request, model):
            raise Http404("No such action.")
        if request.method == "POST":
            try:
                services.delete_model(model=model)
            except DomainError as error:
                messages.error(request, error.message)
                return HttpResponseRedirect(request.path)
            messages.success(request, f"{model.name} is deleted.")
            return HttpResponseRedirect(reverse("admin:models_model_changelist"))
        context = {"model": model, "preview": services.delete_preview(model=model)}
        return self.page(request, "delete", f"Delete {model.name}", context)

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        model = self.find(request, pk)
        if not self.may_change(request, model):
            raise Http404("No such action.")
        if verb == "load":
            demand.ask_for(model=model, owner=f"{owner()} admin", waiting=1)
            messages.success(request, "Its engine is asked for; the plan gets it ready.")
        elif verb in ("ignore-defaults", "use-defaults"):
            services.choose_defaults(model=model, ignore=verb == "ignore-defaults")
            messages.success(request, "It is so from the next start of its engine, which is stopped if it runs.")
        elif verb == "again":
            close_breaker(model=model.engine_model)
            try_again(model=model)
            messages.success(request, "It is tried again as soon as something waits for it.")
        else:
            raise Http404("No such action.")
        return HttpResponseRedirect(reverse("admin:models_model_change", args=[model.pk]))

    def _about(self, request: HttpRequest, model: Model) -> dict[str, Any]:
        """What stands above the form."""
        measured = list(Benchmark.objects.filter(model=model).exclude(levels=[]).select_related("model")[:SHOWN])
        engines = Engine.objects.filter(model=model.engine_model).select_related("device")
        deaths = EngineDeath.objects.filter(model__in=[model, model.engine_model]).select_related("device")
        return {
            "engines": engines,
            "deaths": deaths[:SHOWN],
            "broken_until": model.engine_model.broken_until,
            "charts": [
                {"id": f"chart-{measure}", "title": title, "series": benchmarks.compare(measured, measure)}
                for measure, title in CHARTS
            ],
            "benchmarks": measured,
            "usage": self._usage(request, model),
            "examined": bool(model.engine_model.findings),
            "defaults": model.engine_model.findings.get("sampling_defaults"),
            "defaults_ignored": model.engine_model.engine_settings.get("ignore_generation_config", False),
            "may_operate": self.may_change(request, model),
            "may_delete": self.has_delete_permission(request, model),
            "size": filesizeformat(model.bytes) if model.bytes else "",
        }

    def _usage(self, request: HttpRequest, model: Model) -> list[dict[str, Any]]:
        """Interactive requests and tokens of the user's projects, a row a day."""
        since = timezone.now().date() - timedelta(days=USAGE_DAYS)
        rows = Usage.objects.visible_to(signed_in(request)).filter(model_name=model.name, day__gte=since)
        sums = {name: Sum(name) for name in ("requests", "failed", "input_tokens", "output_tokens")}
        return [dict(row) for row in rows.order_by("-day").values("day").annotate(**sums)]

    @display(description="Name", ordering="name")
    def shown_name(self, model: Model) -> str:
        if model.base_id is None:
            return model.name
        return format_html('<span class="bs-adapter">{}</span>', model.name)

    @display(description="Kind", label={"base model": "primary", "adapter": "info", "embeddings": "success"})
    def kind(self, model: Model) -> str:
        if model.base_id:
            return "adapter"
        return "embeddings" if model.runner == Model.Runner.POOLING else "base model"

    @display(description="Engine")
    def engine(self, model: Model) -> str:
        rows = [row for row in model.engines.all() if row.state != Engine.State.STOPPED]
        if model.base_id or not rows:
            return ""
        return format_html(
            '<span class="bs-pill" data-engine="{}" title="{}">{}</span>',
            rows[0].state, rows[0].get_state_display(), rows[0].state,
        )  # fmt: skip

    @display(description="Size", ordering="bytes")
    def size(self, model: Model) -> str:
        return filesizeformat(model.bytes) if model.bytes else ""

    @display(description="Project", empty_value="every project")
    def shown_project(self, model: Model) -> Project | None:
        return model.project
