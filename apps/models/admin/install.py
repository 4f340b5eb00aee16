from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.accounts.models import Project
from apps.accounts.tenant_admin import VisibleFilter, moment, projects_where, signed_in
from apps.core.errors import DomainError
from apps.models import services
from apps.models.admin.page import PagesAdmin
from apps.models.installs.progress import current, snapshot_of
from apps.models.models import Install, Model

STEPS = {
    Install.Status.RESOLVING: "Look up",
    Install.Status.DOWNLOADING: "Fetch",
    Install.Status.CHECKING: "Check",
    Install.Status.BOOTING: "Try",
    Install.Status.READY: "Ready",
}


class InstallForm(forms.Form):
    source = forms.CharField(
        label="Model",
        max_length=500,
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": "https://huggingface.co/Qwen/Qwen3-8B", "autofocus": True}
        ),
        help_text="The address of a repository on the hub, owner/name, or owner/name@revision.",
    )
    name = forms.CharField(
        label="Call it",
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="What requests will ask for; empty: owner/name.",
    )
    base = forms.ModelChoiceField(
        Model.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="Only for a LoRA adapter: the model that it was trained on.",
    )
    project = forms.ModelChoiceField(Project.objects.none(), required=False, widget=UnfoldAdminSelectWidget)
    token = forms.CharField(
        label="Token of the hub",
        required=False,
        widget=UnfoldAdminPasswordWidget,
        help_text="Only for gated models. It is kept, encrypted, for the project's next ones, and never shown.",
    )

    def __init__(self, *args: Any, request: HttpRequest, roles: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = signed_in(request)
        projects = Project.objects.filter(pk__in=projects_where(request, roles))
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]
        self.fields["project"].required = not self.user.is_superuser
        self.fields["project"].empty_label = "every project" if self.user.is_superuser else None  # type: ignore[attr-defined]
        bases = Model.objects.filter(base=None, ready=True)
        usable = bases if self.user.is_superuser else bases.filter(Q(project=None) | Q(project__in=projects))
        self.fields["base"].queryset = usable  # type: ignore[attr-defined]

    def start(self) -> Install | None:
        """The install; None when the form has another error now."""
        values = dict(self.cleaned_data)
        token = values.pop("token")
        try:
            if token:
                services.save_hub_token(project=values["project"], token=token)
            return services.start_install(**values, created_by=self.user)
        except DomainError as error:
            field = error.param if error.param in self.fields else None
            self.add_error(field, ValidationError(error.message))
            return None


@admin.register(Install)
class InstallAdmin(PagesAdmin):
    """Paste an address, and watch what becomes of it."""

    templates = "admin/models/install"
    list_display = ("shown_name", "progress", "source", "shown_project", moment("created_at", "Begun"))
    list_display_links = None
    list_select_related = ("project",)
    list_filter = (("status", ChoicesDropdownFilter), ("project", VisibleFilter))
    search_fields = ("name", "source")

    def get_queryset(self, request: HttpRequest) -> Any:
        return Install.objects.visible_to(signed_in(request))

    def get_urls(self) -> list[URLPattern]:
        verb = require_POST(self.admin_site.admin_view(self.verb_view))
        return [path("<int:pk>/do/<str:verb>/", verb, name="models_install_do"), *super().get_urls()]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Model", ordering="name")
    def shown_name(self, install: Install) -> str:
        url = reverse("admin:models_install_change", args=[install.pk])
        return format_html('<a class="bs-id" href="{}">{}</a>', url, install.name)

    @display(description="Progress")
    def progress(self, install: Install) -> str:
        return render_to_string("admin/models/install/progress.html", {"progress": snapshot_of(install)})

    @display(description="Project", empty_value="every project")
    def shown_project(self, install: Install) -> Project | None:
        return install.project

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise Http404("There is no project for which you may install models.")
        form = InstallForm(request.POST or None, request=request, roles=self.roles)
        if form.is_valid() and (install := form.start()):
            return HttpResponseRedirect(reverse("admin:models_install_change", args=[install.pk]))
        return self.page(request, "new", "Install a model", {"form": form})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        install = self.find(request, object_id)
        context = {
            "install": install,
            "progress": current(install),
            "steps": [(str(status), label) for status, label in STEPS.items()],
            "may_change": self.may_change(request, install),
            "may_retry": install.status in services.RETRYABLE,
        }
        return self.page(request, "detail", install.name, context)

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        install = self.find(request, pk)
        verbs = {"cancel": services.cancel_install, "retry": services.retry_install}
        if verb not in verbs or not self.may_change(request, install):
            raise Http404("No such action.")
        try:
            if not verbs[verb](install=install):
                messages.warning(request, f"It is {install.status}: there is nothing to {verb}.")
        except DomainError as error:
            messages.error(request, error.message)
        return HttpResponseRedirect(reverse("admin:models_install_change", args=[install.pk]))
