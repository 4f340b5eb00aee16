from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.accounts.models import Project
from apps.accounts.tenant_admin import CURATORS, DaysFilter, VisibleFilter, moment, projects_where, signed_in
from apps.core.errors import DomainError
from apps.datasets.runs import judging
from apps.datasets.runs.services import asks_chat
from apps.models.admin.page import PagesAdmin
from apps.models.models import Model
from apps.training.admin.deployment_verbs import DeploymentVerbs, datasets_of, verbs_of
from apps.training.admin.job_page import evaluations_of
from apps.training.admin.texts import figures_of, pairs_of
from apps.training.deployments import judged
from apps.training.deployments import services as deployments
from apps.training.deployments.files import is_whole_model
from apps.training.deployments.progress import snapshot_of
from apps.training.models import Checkpoint, Deployment

DATASETS = 200  # to choose from


class DeployForm(forms.Form):
    kind = forms.ChoiceField(choices=Deployment.Kind, widget=forms.RadioSelect)
    name = forms.CharField(
        label="Requests call it", required=False, max_length=deployments.NAME_CHARACTERS,
        widget=UnfoldAdminTextInputWidget, help_text="Empty: the usual name.",
    )  # fmt: skip

    rubric = forms.CharField(
        label="Its rubric", required=False, max_length=judging.RUBRIC_CHARACTERS,
        widget=UnfoldAdminTextareaWidget({"rows": 3, "placeholder": judged.RUBRIC}),
        help_text="What makes an answer good, in words. Empty: that it says what the reference says.",
    )  # fmt: skip

    def __init__(self, *args: Any, checkpoint: Checkpoint, **more: Any) -> None:
        super().__init__(*args, **more)
        self._checkpoint = checkpoint
        self.fields["judge"] = _judges(checkpoint.job.project)

    def start(self, **more: Any) -> Deployment | None:
        """None when the form has another error now."""
        values = dict(self.cleaned_data)
        try:
            judge = judged.chosen(values.pop("judge"), values.pop("rubric"))
            return deployments.deploy(checkpoint=self._checkpoint, judge=judge, **values, **more)
        except DomainError as error:
            self.add_error(error.param if error.param in self.fields else None, ValidationError(error.message))
            return None


def _judges(project: Project) -> forms.ModelChoiceField[Model]:
    usable = asks_chat(Model.objects.usable_by(project))
    return forms.ModelChoiceField(
        usable.order_by("name"), label="Judge", required=False, to_field_name="name", empty_label="None",
        widget=UnfoldAdminSelectWidget,
        help_text="A model that also scores what base and tuned model answer, from 1 to 5.",
    )  # fmt: skip


@admin.register(Deployment)
class DeploymentAdmin(PagesAdmin):
    """What is served, on its way, or was refused; and why."""

    templates = "admin/training/deployment"
    list_display = ("shown_name", "shown_status", "kind", "shown_base", "verdict", moment("created_at", "Created"))
    list_display_links = None
    list_filter = (
        ("status", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter), ("project", VisibleFilter),
        ("created_at", DaysFilter),
    )  # fmt: skip
    search_fields = ("name", "uid", "checkpoint__job__base_name")
    search_help_text = "Name, id or base model"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super().get_queryset(request).select_related("checkpoint__job__base", "checkpoint__job__project", "model")
        )

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            shown = self.admin_site.admin_view(require_POST(view))
            return path(route, shown, name=f"training_deployment_{name}")

        return [
            page("deploy/<str:checkpoint>/", self.deploy_view, "deploy"),
            page("<int:pk>/do/<str:verb>/", DeploymentVerbs(self).view, "do"),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No field is edited by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It stays as the record of what was served; it can be taken back."""
        return False

    # The list

    @display(description="Name", ordering="name")
    def shown_name(self, deployment: Deployment) -> str:
        url = reverse("admin:training_deployment_change", args=[deployment.pk])
        return format_html(
            '<a class="bs-id tr-name" href="{}" title="{}">{}</a>', url, deployment.name, deployment.name
        )

    @display(description="Status", ordering="status")
    def shown_status(self, deployment: Deployment) -> str:
        return format_html(
            '<span class="bs-pill" data-status="{}" title="{}">{}</span>',
            deployment.status, deployment.get_status_display(), deployment.status,
        )  # fmt: skip

    @display(description="Trained on", ordering="checkpoint__job__base_name", header=True)
    def shown_base(self, deployment: Deployment) -> tuple[str, str]:
        return deployment.checkpoint.job.base_name, f"step {deployment.checkpoint.step:,}"

    @display(description="Comparison", empty_value="\N{EN DASH}")
    def verdict(self, deployment: Deployment) -> str | None:
        text = deployment.parity.get("sentence") or deployment.message
        return format_html('<span class="tr-clamp" title="{}">{}</span>', text, text) if text else None

    # A new one

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        """Of `?checkpoint=ftckpt_…`."""
        checkpoint = self._checkpoint(request, request.GET.get("checkpoint", ""))
        whole = is_whole_model(checkpoint)
        first = {"kind": Deployment.Kind.MERGED if whole else Deployment.Kind.ADAPTER, "name": _usual(checkpoint)}
        form = DeployForm(request.POST or None, initial=first, checkpoint=checkpoint)
        if form.is_valid() and (made := form.start(created_by=signed_in(request))):
            return _to(made)
        context = {"form": form, "checkpoint": checkpoint, "job": checkpoint.job, "whole": whole}
        return self.page(request, "new", f"Deploy step {checkpoint.step:,}", context)

    def deploy_view(self, request: HttpRequest, checkpoint: str) -> HttpResponseBase:
        """With what is usual: one button."""
        found = self._checkpoint(request, checkpoint)
        try:
            return _to(deployments.deploy(checkpoint=found, created_by=signed_in(request)))
        except DomainError as error:
            messages.error(request, error.message)
            return HttpResponseRedirect(reverse("admin:training_trainingjob_change", args=[found.job_id]))

    def _checkpoint(self, request: HttpRequest, uid: str) -> Checkpoint:
        """One that the user may deploy, or a 404."""
        mine = Checkpoint.objects.filter(job__project__in=projects_where(request, CURATORS))
        rows = mine.select_related("job__project", "job__base")
        found = rows.filter(uid=uid).first() if "\0" not in uid else None
        if found is None:
            raise Http404("No such checkpoint.")
        return found

    # One of them

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        deployment = self.find(request, object_id)
        may_change = self.may_change(request, deployment)
        context = {
            "deployment": deployment,
            "job": deployment.checkpoint.job,
            "progress": snapshot_of(deployment),
            "parity": deployment.parity,
            "pairs": pairs_of(deployment.parity),
            "figures": figures_of(deployment.parity),
            "evaluations": evaluations_of([deployment.pk]),
            "datasets": datasets_of(deployment)[:DATASETS],
            "going": deployment.status in Deployment.GOING,
            "verbs": verbs_of(deployment) if may_change else {},
        }
        return self.page(request, "detail", deployment.name, context)


def _usual(checkpoint: Checkpoint) -> str:
    try:
        return deployments.default_name(checkpoint)
    except DomainError:
        return ""


def _to(deployment: Deployment) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:training_deployment_change", args=[deployment.pk]))
