"""From a file to an import: choose it, see what its rows become, then import. Nothing is imported before that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from apps.accounts.tenant_admin import signed_in
from apps.batches.models import File
from apps.batches.services import create_file
from apps.conversations.conversation import Message, encode
from apps.core.errors import DomainError
from apps.datasets import services
from apps.datasets.admin.forms import LABELS, ImportForm, UploadForm, first_error
from apps.datasets.imports.formats import SUFFIXES
from apps.datasets.imports.shapes import NAMES, Draft
from apps.datasets.imports.templates import FIELDS, FILTERS
from apps.datasets.models import Dataset
from apps.datasets.reviews.rendering import visible
from apps.datasets.services import Preview

if TYPE_CHECKING:
    from apps.datasets.admin.dataset import DatasetAdmin

OFFERED = 10  # files that were uploaded before
SHOWN = 2_000  # characters of a text in the preview


class Uploads:
    """Their views, for the admin of datasets."""

    def __init__(self, pages: DatasetAdmin) -> None:
        self._pages = pages

    def urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            view = self._pages.admin_site.admin_view(view)
            return path(f"<int:pk>/upload/{route}", view, name=f"datasets_dataset_{name}")

        return [
            page("", self.upload_view, "upload"),
            page("<uid:file_id>/", self.map_view, "map"),
            page("<uid:file_id>/preview/", require_POST(self.preview_view), "preview"),
        ]

    def upload_view(self, request: HttpRequest, pk: int) -> Any:
        dataset = self._find(request, pk)
        form = UploadForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            try:
                file = _keep(dataset, form.cleaned_data["file"])
                return HttpResponseRedirect(reverse("admin:datasets_dataset_map", args=[pk, file.uid]))
            except DomainError as error:
                form.add_error("file", error.message)
        context = {"dataset": dataset, "form": form, "files": _offered(dataset)}
        return self._pages.page(request, "upload", f"Upload to {dataset}", context)

    def map_view(self, request: HttpRequest, pk: int, file_id: str) -> Any:
        dataset = self._find(request, pk)
        file = _file(dataset, file_id)
        error = ""
        if request.method == "POST":
            form = ImportForm(request.POST)
            try:
                return self._start(request, dataset, file, form)
            except DomainError as refusal:
                error = refusal.message
        context = {"dataset": dataset, "file": file, "error": error, **self._seen(request, file)}
        return self._pages.page(request, "map", file.filename, context)

    def preview_view(self, request: HttpRequest, pk: int, file_id: str) -> HttpResponse:
        """What the form as it stands makes of the first rows, as a piece of the page."""
        file = _file(self._find(request, pk), file_id)
        form = ImportForm(request.POST)
        try:
            seen = services.preview(file=file, **_values(form))
        except DomainError as error:
            return TemplateResponse(request, f"{self._pages.templates}/preview.html", {"error": error.message})
        return TemplateResponse(request, f"{self._pages.templates}/preview.html", shown(seen))

    def _find(self, request: HttpRequest, pk: int) -> Dataset:
        dataset: Dataset = self._pages.find(request, pk)
        if not self._pages.may_change(request, dataset):
            raise Http404("No such page.")
        return dataset

    def _start(self, request: HttpRequest, dataset: Dataset, file: File, form: ImportForm) -> HttpResponseRedirect:
        values = _values(form)
        services.start_import(dataset=dataset, file=file, **values, **form.options(), created_by=signed_in(request))
        return self._pages.back(request, dataset.pk, done=f"{file.filename} is being imported.")

    def _seen(self, request: HttpRequest, file: File) -> dict[str, Any]:
        """The form: as it was sent, else as the file's first rows suggest."""
        asked = request.POST if request.method == "POST" else request.GET
        common = {"shapes": NAMES.items(), "filters": ", ".join(FILTERS), "skip_bad": "skip_bad" in asked}
        common["accept_losses"] = "accept_losses" in asked
        try:
            seen = services.preview(file=file)
        except DomainError as error:
            common["refused"] = error.message
            return {**common, "shape": "columns", **_look(file), "templates": _templates(asked, {})}
        shape = asked.get("shape") or seen.shape
        return {
            **common, **shown(seen), "detected": NAMES[seen.shape], "shape": shape, "replace": "replace" in asked,
            "templates": _templates(asked, seen.mapping), "columns": seen.columns,
        }  # fmt: skip


def shown(seen: Preview) -> dict[str, Any]:
    """A preview for its template, with invisible characters shown."""
    return {
        "drafts": list(map(_shown_draft, seen.drafts)), "flaws": seen.errors, "seen": seen, "uses": seen.uses,
        "losses": seen.losses,
    }  # fmt: skip


def _shown_draft(draft: Draft) -> dict[str, Any]:
    made = draft.conversation
    turns = [(turn.role, _cut(_content(turn))) for turn in made.messages]
    sides = {"expected": draft.reference, "worse": draft.rejected}
    return {
        "turns": turns,
        "sides": [(k, _cut(v)) for k, v in sides.items() if v],
        "key": made.key,
        "tags": made.tags,
    }


def _content(turn: Message) -> str:
    if isinstance(turn.content, str):
        return turn.content
    return encode(turn.content or turn.tool_calls).decode()


def _cut(text: str) -> str:
    return visible(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")


def _templates(asked: Any, mapping: dict[str, str]) -> list[tuple[str, str, str]]:
    """Field, label and template of each."""
    return [(field, LABELS[field], asked.get(f"map_{field}", mapping.get(field, ""))) for field in FIELDS]


def _look(file: File) -> dict[str, Any]:
    """The columns of a file whose rows need a mapping before they can be shown; none when it cannot be read."""
    try:
        return {"columns": services.columns_of(file=file), "unmapped": True}
    except DomainError:
        return {"columns": []}


def _values(form: ImportForm) -> dict[str, Any]:
    """Raises `DomainError`."""
    if not form.is_valid():
        raise DomainError(first_error(form))
    return form.values()


def _keep(dataset: Dataset, upload: Any) -> File:
    """Raises `DomainError`."""
    return create_file(project=dataset.project, filename=upload.name, purpose=File.Purpose.USER_DATA, upload=upload)


def _offered(dataset: Dataset) -> list[File]:
    """The project's latest files that may hold rows."""
    files = File.objects.of(dataset.project).unexpired().order_by("-pk")[: 10 * OFFERED]
    return [file for file in files if file.filename.lower().endswith(SUFFIXES)][:OFFERED]


def _file(dataset: Dataset, uid: str) -> File:
    return get_object_or_404(File.objects.of(dataset.project).unexpired(), uid=uid)
