"""The pages on which a fine-tuning begins: the form, what it will take, and the ways to its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from apps.accounts.tenant_admin import CURATORS, projects_where, signed_in
from apps.batches.models import File
from apps.batches.services import create_file
from apps.core.errors import DomainError
from apps.datasets.admin import export_choices
from apps.datasets.exports import services as exports
from apps.datasets.exports.job import TOPIC
from apps.datasets.jobs import current
from apps.datasets.models import Export
from apps.training import services
from apps.training.admin import estimate, wizard
from apps.training.options import FIELDS

if TYPE_CHECKING:
    from apps.training.admin.job import JobAdmin

Page = tuple[str, Callable[..., Any], str]
ANSWERS = {"sft": "starred", "dpo": "starred_pairs", "kto": "starred_pairs"}  # what becomes of stars, by method
NAMES = {"training_file": "file"}  # of the form's fields, where the service's are others
NOBODY = "There is no project in which you may train models."


class WizardPages:
    """Its views, for the admin of jobs."""

    def __init__(self, pages: JobAdmin) -> None:
        self._pages = pages

    def pages(self) -> list[Page]:
        """(route, view, name) each."""
        return [
            ("estimate/", require_POST(self.estimate), "estimate"),
            ("upload/", require_POST(self.upload), "upload"),
            ("stars/", self.stars, "stars"),
            ("stars/count/", require_GET(self.count), "stars_count"),
            ("stars/<int:pk>/", require_GET(self.wait), "wait"),
        ]

    def new(self, request: HttpRequest) -> HttpResponseBase:
        self._check(request)
        asked = request.method == "POST"
        chosen = wizard.read(request, request.POST if asked else request.GET)
        problems = chosen.problems()
        if asked and not problems:
            try:
                job = chosen.start(request)
                return HttpResponseRedirect(reverse("admin:training_trainingjob_change", args=[job.pk]))
            except DomainError as error:
                problems = {NAMES.get(error.param or "", error.param or ""): error.message}
        context = {
            **wizard.offer(request, chosen, problems),
            "told": estimate.of(chosen),
            "error": _elsewhere(problems),
        }
        return self._pages.page(request, "new", "New fine-tuning", context)

    def estimate(self, request: HttpRequest) -> JsonResponse:
        """What the form as it stands would take, and what is wrong with it."""
        self._check(request)
        chosen = wizard.read(request, request.POST)
        return JsonResponse({**estimate.of(chosen), "problems": chosen.problems()})

    def upload(self, request: HttpRequest) -> HttpResponseRedirect:
        """Keep a training file, and go on with it chosen."""
        self._check(request)
        number = request.POST.get("project", "")
        project = projects_where(request, CURATORS).get(int(number) if number.isdecimal() and len(number) < 19 else 0)
        content = request.FILES.get("content")
        try:
            if project is None:
                raise DomainError("Choose a project for the file.")
            if content is None:
                raise DomainError("Choose a file to upload.")
            file = create_file(
                project=project,
                filename=content.name or "training.jsonl",
                purpose=File.Purpose.FINE_TUNE,
                upload=content,
            )
        except DomainError as error:
            messages.error(request, error.message)
            return HttpResponseRedirect(reverse("admin:training_trainingjob_add"))
        return HttpResponseRedirect(_wizard(file=file.uid))

    def stars(self, request: HttpRequest) -> HttpResponseBase:
        """From starred examples: choose them, and an export begins that the wizard goes on with."""
        self._check(request)
        query, said = request.POST if request.method == "POST" else request.GET, ""
        chosen = _starred(request, query)
        if request.method == "POST":
            try:
                export = chosen.start(request)
                return HttpResponseRedirect(reverse("admin:training_trainingjob_wait", args=[export.pk]))
            except DomainError as error:
                said = error.message
        context = {**export_choices.offer(request, chosen), "error": said, "method": query.get("method", "sft")}
        return self._pages.page(request, "stars", "Train on starred examples", context)

    def count(self, request: HttpRequest) -> JsonResponse:
        self._check(request)
        try:
            return JsonResponse({"rows": exports.count(_starred(request, request.GET).selection())})
        except DomainError as error:
            return JsonResponse({"error": error.message})

    def wait(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """Until the export is completed; then the wizard follows, with its file chosen."""
        self._check(request)
        export = Export.objects.visible_to(signed_in(request)).select_related("file", "dataset").filter(pk=pk).first()
        if export is None:
            raise Http404("No such export.")
        if export.status == Export.Status.COMPLETED and export.file:
            return HttpResponseRedirect(_wizard(file=export.file.uid))
        context = {"export": export, "progress": current(export, TOPIC)}
        return self._pages.page(request, "wait", "Training file", context)

    def _check(self, request: HttpRequest) -> None:
        if not self._pages.has_add_permission(request):
            raise Http404(NOBODY)


def _starred(request: HttpRequest, query: Any) -> export_choices.Chosen:
    """As the page of exports reads it, with the format and the answers that the method needs."""
    method = query.get("method", "sft")
    return export_choices.read(
        request,
        {
            **{name: query.get(name, "") for name in ("dataset", "run", "split", "part")},
            "format": services.EXPORT_FORMATS.get(method, "chat"),
            "answers": query.get("answers", "") or ANSWERS.get(method, "starred"),
        },
    )


def _wizard(**query: str) -> str:
    return f"{reverse('admin:training_trainingjob_add')}?{urlencode(query)}"


def _elsewhere(problems: dict[str, str]) -> str:
    """What is said about no field of the form."""
    known = {*wizard.TEXTS, *FIELDS}
    return " ".join(text for name, text in problems.items() if name not in known)
