from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.accounts.models import Project
from apps.accounts.tenant_admin import VisibleFilter, moment, projects_where, signed_in
from apps.core.errors import DomainError
from apps.models.admin.page import PagesAdmin
from apps.models.benchmarks import services as benchmarks
from apps.models.models import Benchmark, Model

CHARTS = (
    ("output_tokens_per_second", "Throughput, tokens/s"),
    ("first_token", "First token p95, ms"),
    ("inter_token", "Between tokens p95, ms"),
)
COMPARED = 8  # benchmarks on one chart
OFFERED = 30


class BenchmarkForm(forms.Form):
    model = forms.ModelChoiceField(Model.objects.none(), widget=UnfoldAdminSelectWidget, empty_label=None)
    concurrencies = forms.CharField(
        label="Requests in flight",
        initial=", ".join(map(str, benchmarks.CONCURRENCIES)),
        widget=UnfoldAdminTextInputWidget,
        help_text="One measurement for each number.",
    )
    prompt_tokens = forms.IntegerField(initial=256, widget=UnfoldAdminIntegerFieldWidget)
    output_tokens = forms.IntegerField(initial=64, widget=UnfoldAdminIntegerFieldWidget)
    requests_per_level = forms.IntegerField(
        label="Requests",
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Of each measurement; empty: four for each in flight, at least eight.",
    )

    def __init__(self, *args: Any, models: QuerySet[Model], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["model"].queryset = models  # type: ignore[attr-defined]

    def clean_concurrencies(self) -> list[int]:
        try:
            return [int(number) for number in self.cleaned_data["concurrencies"].replace(",", " ").split()]
        except ValueError as error:
            raise ValidationError("Give whole numbers, with commas between them.") from error

    def start(self, **more: Any) -> Benchmark | None:
        try:
            return benchmarks.start_benchmark(**self.cleaned_data, **more)
        except DomainError as error:
            self.add_error(error.param if error.param in self.fields else None, ValidationError(error.message))
            return None


@admin.register(Benchmark)
class BenchmarkAdmin(PagesAdmin):
    """What was measured; several side by side on one chart."""

    templates = "admin/models/benchmark"
    list_display = (
        "shown_model",
        "shown_status",
        "shown_device",
        "best",
        "sweep_sentence",
        moment("created_at", "Begun"),
    )
    list_display_links = None
    list_select_related = ("model", "device")
    list_filter = (("status", ChoicesDropdownFilter), ("model", VisibleFilter))
    search_fields = ("model__name", "device_name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return benchmarks.visible_to(signed_in(request))

    def may_change(self, request: HttpRequest, obj: Any) -> bool:
        """Who may run batches of the model may measure it."""
        user = signed_in(request)
        writable = projects_where(request, self.roles)
        project = obj.model.project_id
        return user.is_superuser or (project in writable if project else bool(writable))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        cancel = require_POST(self.admin_site.admin_view(self.cancel_view))
        return [path("<int:pk>/cancel/", cancel, name="models_benchmark_cancel"), *super().get_urls()]

    @display(description="Model", ordering="model__name")
    def shown_model(self, benchmark: Benchmark) -> str:
        url = reverse("admin:models_benchmark_change", args=[benchmark.pk])
        return format_html('<a class="bs-id" href="{}">{}</a>', url, benchmark.model)

    @display(description="Status", ordering="status")
    def shown_status(self, benchmark: Benchmark) -> str:
        return format_html(
            '<span class="bs-pill" data-status="{}" title="{}">{}</span>',
            "in_progress" if benchmark.status == Benchmark.Status.RUNNING else benchmark.status,
            benchmark.get_status_display(),
            benchmark.status,
        )

    @display(description="Device", empty_value="none yet")
    def shown_device(self, benchmark: Benchmark) -> str | None:
        return benchmark.device_name or None

    @display(description="Best tokens/s", empty_value="-")
    def best(self, benchmark: Benchmark) -> str | None:
        speeds = [level.get("output_tokens_per_second") or level["requests_per_second"] for level in benchmark.levels]
        return f"{max(speeds):,.0f}" if speeds else None

    @display(description="In flight")
    def sweep_sentence(self, benchmark: Benchmark) -> str:
        return ", ".join(map(str, benchmark.sweep["concurrencies"]))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise Http404("There is no project for which you may measure models.")
        wanted = Model.objects.filter(name=request.GET.get("model", "").replace("\0", "")).first()
        form = BenchmarkForm(request.POST or None, models=_usable(request, self.roles), initial={"model": wanted})
        if form.is_valid() and (benchmark := form.start(created_by=signed_in(request))):
            return HttpResponseRedirect(reverse("admin:models_benchmark_change", args=[benchmark.pk]))
        return self.page(request, "new", "Measure a model", {"form": form})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> TemplateResponse:
        benchmark = self.find(request, object_id)
        others = self.get_queryset(request).exclude(pk=benchmark.pk).exclude(levels=[]).select_related("model")
        offered = list(others[:OFFERED])
        chosen = set(request.GET.getlist("with")[:COMPARED])
        shown = [benchmark, *(other for other in offered if other.uid in chosen)]
        context = {
            "benchmark": benchmark,
            "label": benchmarks.label(benchmark),
            "progress": benchmarks.snapshot_of(benchmark),
            "charts": [
                {"id": f"chart-{measure}", "title": title, "series": benchmarks.compare(shown, measure)}
                for measure, title in CHARTS
            ],
            "offered": [(other, benchmarks.label(other), other.uid in chosen) for other in offered],
            "may_change": self.may_change(request, benchmark),
        }
        return self.page(request, "detail", f"{benchmark.model}", context)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponseRedirect:
        benchmark = self.find(request, pk)
        if not self.may_change(request, benchmark):
            raise Http404("No such action.")
        if not benchmarks.cancel_benchmark(benchmark=benchmark):
            messages.warning(request, f"It is {benchmark.status}: there is nothing to cancel.")
        return HttpResponseRedirect(reverse("admin:models_benchmark_change", args=[benchmark.pk]))


def _usable(request: HttpRequest, roles: tuple[str, ...]) -> QuerySet[Model]:
    """Models of the projects where the user may run something."""
    projects = Project.objects.filter(pk__in=projects_where(request, roles))
    ready = Model.objects.filter(ready=True)
    if signed_in(request).is_superuser:
        return ready
    return ready.filter(Q(project=None) | Q(project__in=projects))
