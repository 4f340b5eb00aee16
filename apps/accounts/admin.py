from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.contrib.postgres.forms import SimpleArrayField
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from apps.accounts.models import ApiKey, Membership, Project, Scope, all_scopes
from apps.accounts.services import create_api_key, revoke_api_key
from apps.accounts.tenant_admin import OWNERS, TenantAdmin, VisibleFilter, moment, projects_where, signed_in

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User], ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    verbose_name = "member"
    verbose_name_plural = "members"

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Owners choose among people they already share a project with; only a superuser knows everybody."""
        user = signed_in(request)
        if db_field.name == "user" and not user.is_superuser:
            kwargs["queryset"] = User.objects.filter(projects__members=user).distinct()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_view_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        """Whoever sees the project sees its members."""
        return signed_in(request).is_staff

    def _owns(self, request: HttpRequest, obj: Project | None = None) -> bool:
        """Whether the user owns the project; asked about none, any."""
        owned = projects_where(request, OWNERS)
        return signed_in(request).is_superuser or (bool(owned) if obj is None else obj.pk in owned)

    has_add_permission = has_change_permission = has_delete_permission = _owns


@admin.register(Project)
class ProjectAdmin(TenantAdmin):
    roles = OWNERS
    list_display = ("name", "people", moment("created_at", "Created"))
    search_fields = ("name", "uid")
    fields = ("name", "uid", "created_at")
    readonly_fields = ("uid", "created_at")
    inlines = (MembershipInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        return super().get_queryset(request).annotate(people=Count("membership"))

    def may_change(self, request: HttpRequest, obj: Project) -> bool:
        return obj.pk in projects_where(request, OWNERS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never here: it would take every batch and result along."""
        return False

    @display(description="Members")
    def people(self, project: Any) -> int:
        return int(project.people)


class ApiKeyForm(forms.ModelForm[ApiKey]):
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, initial=all_scopes, widget=UnfoldAdminCheckboxSelectMultipleWidget
    )
    allowed_models = SimpleArrayField(
        forms.CharField(max_length=200),
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Names, separated by commas. Empty: every model.",
    )

    class Meta:
        model = ApiKey
        fields = ("project", "name", "scopes", "allowed_models", "expires_at")


@admin.register(ApiKey)
class ApiKeyAdmin(TenantAdmin):
    roles = OWNERS
    form = ApiKeyForm
    list_display = (
        "name",
        "shown_prefix",
        "state",
        "project",
        moment("last_used_at", "Last used"),
        moment("expires_at", "Expires"),
    )
    list_select_related = ("project",)
    list_filter = (("project", VisibleFilter),)
    search_fields = ("name", "prefix")
    actions = ("revoke_selected",)
    actions_submit_line = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        changed_later = ("shown_prefix", "state", "created_by", "created_at", "last_used_at") if obj else ()
        return ("project", "name", "scopes", "allowed_models", "expires_at", *changed_later)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        later = ("shown_prefix", "state", "created_by", "created_at", "last_used_at")
        return ("project", *later) if obj else later

    def get_actions_submit_line(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Revoking is offered where it would do something."""
        key = self.get_object(request, str(object_id))
        offered = key is not None and key.revoked_at is None and self.may_change(request, key)
        return list(super().get_actions_submit_line(request, object_id)) if offered else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: a revoked key still says who made which batch."""
        return False

    @display(description="Key")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @display(description="State", label={"live": "success", "expired": "warning", "revoked": "danger"})
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "live"

    # The secret exists only while the request that made it is answered.

    def save_form(self, request: HttpRequest, form: ApiKeyForm, change: bool) -> ApiKey:
        if change:
            saved: ApiKey = super().save_form(request, form, change)
            return saved
        key, secret = create_api_key(**form.cleaned_data, created_by=signed_in(request))
        request.__dict__["new_secret"] = secret
        return key

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing is related to a key."""

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "model_admin": self,
            "title": "Your new API key",
            "key": obj,
            "secret": request.__dict__["new_secret"],
        }
        return TemplateResponse(request, "admin/accounts/apikey/secret.html", context)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            self.revoke(request, key)

    @action(description="Revoke")
    def revoke(self, request: HttpRequest, key: ApiKey) -> None:
        if not self.may_change(request, key):
            messages.error(request, f"{key}: only an owner of {key.project} can revoke it.")
        elif revoke_api_key(key=key):
            messages.success(request, f"{key} is revoked: it opens nothing any more.")
        else:
            messages.info(request, f"{key} was revoked before.")
