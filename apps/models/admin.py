from __future__ import annotations

from pathlib import Path
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin as UnfoldModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.accounts.models import Project
from apps.accounts.tenant_admin import TenantAdmin, VisibleFilter, moment, signed_in
from apps.models.models import Engine, Model
from apps.models.services import register_model


class ModelForm(forms.ModelForm[Model]):
    class Meta:
        model = Model
        fields = ("name", "path", "runner", "base", "project", "license", "owned_by", "engine_settings")

    def clean(self) -> dict[str, Any]:
        """Register the folder here, so that what the service finds wrong stands beside the field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            wanted = {"name": self.instance.name, **cleaned, "path": Path(cleaned["path"])}
            wanted.pop("engine_settings")
            try:
                self.instance = register_model(**wanted)
            except ValueError as error:
                raise ValidationError({"path": str(error)}) from error
        return cleaned


@admin.register(Model)
class ModelAdmin(TenantAdmin):
    """Everybody sees what they may use; only a superuser points the server at folders."""

    form = ModelForm
    list_display = ("shown_name", "kind", "runner", "path", "shown_project", "license", moment("created_at", "Added"))
    list_select_related = ("base", "project")
    list_filter = (("runner", ChoicesDropdownFilter), ("project", VisibleFilter))
    search_fields = ("name", "path")
    ordering = (Coalesce("base__name", "name"), F("base").asc(nulls_first=True), "name")
    readonly_fields = ("created_at",)
    change_form_outer_before_template = "admin/models/model/used_by.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        user = signed_in(request)
        if user.is_superuser:
            return Model.objects.all()
        return Model.objects.filter(Q(project=None) | Q(project__in=Project.objects.visible_to(user)))

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("name", "created_at") if obj else ("created_at",)

    def may_change(self, request: HttpRequest, obj: Model) -> bool:
        return signed_in(request).is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).is_superuser

    @display(description="Name", ordering="name")
    def shown_name(self, model: Model) -> str:
        if model.base_id is None:
            return model.name
        return format_html('<span class="bs-adapter">{}</span>', model.name)

    @display(description="Kind", label={"base model": "primary", "adapter": "info"})
    def kind(self, model: Model) -> str:
        return "adapter" if model.base_id else "base model"

    @display(description="Project", empty_value="every project")
    def shown_project(self, model: Model) -> Project | None:
        return model.project


ENGINE_LABELS = {
    Engine.State.STOPPED: "default",
    Engine.State.STARTING: "warning",
    Engine.State.READY: "info",
    Engine.State.BUSY: "success",
    Engine.State.ASLEEP: "default",
    Engine.State.DRAINING: "warning",
    Engine.State.FAILED: "danger",
}


@admin.register(Engine)
class EngineAdmin(UnfoldModelAdmin):
    """Read only: the scheduler decides what runs where."""

    list_display = ("device", "shown_state", "sentence", "model", moment("since", "Since"))
    list_select_related = ("device", "model")
    fields = readonly_fields = ("device", "model", "shown_state", "sentence", "message", "since")

    @display(description="State", label=ENGINE_LABELS)
    def shown_state(self, engine: Engine) -> tuple[str, str]:
        return engine.state, engine.state

    @display(description="What it does")
    def sentence(self, engine: Engine) -> str:
        return engine.get_state_display()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It names every tenant's models."""
        return signed_in(request).is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
