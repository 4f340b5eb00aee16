from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect, JsonResponse
from django.template.defaultfilters import date
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.views import ChangeList

from apps.accounts.tenant_admin import DaysFilter, VisibleFilter
from apps.core.errors import DomainError
from apps.models.admin.page import PagesAdmin
from apps.training.admin import job_page
from apps.training.admin.compare import COMPARED, Comparison
from apps.training.admin.job_verbs import JobVerbs
from apps.training.admin.rows import JobList, progress_of, spark_html
from apps.training.admin.wizard_pages import WizardPages
from apps.training.models import Deployment, TrainingJob


@admin.register(TrainingJob)
class JobAdmin(PagesAdmin):
    """Begin a training, watch it learn, and go on with what came of it."""

    templates = "admin/training/trainingjob"
    list_display = (
        "shown_name",
        "shown_base",
        "progress",
        "loss",
        "result",
        "created",
    )
    list_display_links = None
    list_select_related = ("project",)
    list_filter = (
        ("status", ChoicesDropdownFilter), ("method", ChoicesDropdownFilter), ("technique", ChoicesDropdownFilter),
        ("base", VisibleFilter), ("project", VisibleFilter), ("created_at", DaysFilter),
    )  # fmt: skip
    search_fields = ("uid", "suffix", "base_name")
    search_help_text = "Id, suffix or base model"
    actions = ("compare",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("project", "base")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return JobList

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"training_trainingjob_{name}")

        comparison, wizard = Comparison(self), WizardPages(self)
        return [
            page("compare/", require_GET(comparison.view), "compare"),
            *(page(*each) for each in wizard.pages()),
            page("<int:pk>/points/", require_GET(self.points_view), "points"),
            page("<int:pk>/events/", require_GET(self.events_view), "events"),
            page("<int:pk>/lineage/", require_GET(self.lineage_view), "lineage"),
            page("<int:pk>/do/<str:verb>/", require_POST(JobVerbs(self).view), "do"),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No field is edited by hand: what can be done has a button."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A job is the record of where a model came from."""
        return False

    # The list

    @display(description="Job", ordering="id")
    def shown_name(self, job: TrainingJob) -> str:
        url = reverse("admin:training_trainingjob_change", args=[job.pk])
        name = job.suffix or f"{job.uid[:14]}…"
        return format_html('<a class="bs-link" href="{}" title="{}">{}</a>', url, job.uid, name)

    @display(description="Base model", ordering="base_name", header=True)
    def shown_base(self, job: TrainingJob) -> tuple[str, str]:
        return job.base_name, job_page.method_of(job)

    @display(description="Status", ordering="status")
    def progress(self, job: TrainingJob) -> str:
        return render_to_string(f"{self.templates}/progress.html", {"progress": progress_of(job)})

    @display(description="Loss", empty_value="\N{EN DASH}")
    def loss(self, job: Any) -> str | None:
        return spark_html(job.spark) or None

    @display(description="Result", empty_value="\N{EN DASH}")
    def result(self, job: Any) -> str | None:
        """The model and what is served of it, or why there is none."""
        if job.status == job.Status.SUCCEEDED:
            name = format_html(
                '<span class="bs-id" title="{}">ft:…{}</span><button type="button" class="bs-copy" data-copy="{}" '
                'title="Copy the whole name">content_copy</button>',
                job.model_name,
                job.model_name[-9:],
                job.model_name,
            )
            return format_html('<div class="tr-result"><span>{}</span>{}</div>', name, _deployment_html(job.deployment))
        text = job.message if job.status == job.Status.FAILED else ""
        return format_html('<span class="tr-clamp" title="{}">{}</span>', text, text) if text else None

    @display(description="Created", ordering="created_at")
    def created(self, job: TrainingJob) -> str:
        day = date(job.created_at, "j M, H:i")
        return format_html('<time title="{}">{}</time>', date(job.created_at, "c"), day)

    @admin.action(description="Compare curves")
    def compare(self, request: HttpRequest, jobs: QuerySet[Any]) -> HttpResponseRedirect | None:
        if jobs.count() > COMPARED:
            messages.warning(request, f"At most {COMPARED} jobs fit on one chart: these are the latest of them.")
        chosen = jobs.order_by("-id").values_list("uid", flat=True)[:COMPARED]
        address = reverse("admin:training_trainingjob_compare")
        return HttpResponseRedirect(f"{address}?{urlencode({'job': list(chosen)}, doseq=True)}")

    # A new one

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return WizardPages(self).new(request)

    # One job

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        job = self.find(request, object_id)
        context = job_page.detail(job, may_change=self.may_change(request, job))
        return self.page(request, "detail", job.suffix or job.uid, context)

    def points_view(self, request: HttpRequest, pk: int) -> JsonResponse:
        """The curves as JSON, from the step `after` on; static/js/training.js draws them."""
        job = self.find(request, pk)
        try:
            return JsonResponse(job_page.points(job, request.GET))
        except DomainError as error:
            return JsonResponse({"error": error.message}, status=400)

    def events_view(self, request: HttpRequest, pk: int) -> TemplateResponse:
        job = self.find(request, pk)
        return self.page(request, "events", f"Events of {job}", job_page.events(job, request.GET))

    def lineage_view(self, request: HttpRequest, pk: int) -> TemplateResponse:
        job = self.find(request, pk)
        return self.page(request, "lineage", f"Lineage of {job.model_name}", job_page.lineage_of(job))


def _deployment_html(deployment: Deployment | None) -> str:
    if deployment is None:
        return ""
    return format_html(
        '<a href="{}"><span class="bs-pill" data-status="{}" title="{}">{}</span></a>',
        reverse("admin:training_deployment_change", args=[deployment.pk]),
        deployment.status,
        f"Deployment: {deployment.get_status_display()}",
        deployment.status,
    )
