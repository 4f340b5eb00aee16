"""What the buttons and small forms on the page of a dataset do: each calls a service and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.tenant_admin import signed_in
from apps.core.errors import DomainError
from apps.datasets import services, versions
from apps.datasets.admin.forms import SearchForm, SplitForm, first_error
from apps.datasets.models import Dataset, DuplicateSearch, Import, Member, Version

if TYPE_CHECKING:
    from apps.datasets.admin.dataset import DatasetAdmin


class DatasetVerbs:
    """Its view, for the admin of datasets."""

    def __init__(self, pages: DatasetAdmin) -> None:
        self._pages = pages
        self._verbs = {
            "delete": self._delete,
            "split": self._split,
            "search": self._search,
            "remove": self._remove,
            "remove-duplicates": self._remove_duplicates,
            "cancel-import": self._cancel_import,
            "cancel-search": self._cancel_search,
        }

    def view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        dataset = self._pages.find(request, pk)
        if verb not in self._verbs or not self._pages.may_change(request, dataset):
            raise Http404("No such action.")
        try:
            done = self._verbs[verb](request, dataset)
        except DomainError as error:
            return self._pages.back(request, pk, error=error.message)
        if verb == "delete":
            messages.success(request, done)
            return HttpResponseRedirect(reverse("admin:datasets_dataset_changelist"))
        return self._pages.back(request, pk, done=done)

    def _delete(self, request: HttpRequest, dataset: Dataset) -> str:
        services.delete_dataset(dataset=dataset)
        return f"{dataset} is deleted, with its examples, runs and reviews."

    def _split(self, request: HttpRequest, dataset: Dataset) -> str:
        form = SplitForm(request.POST)
        if not form.is_valid():
            raise DomainError(first_error(form))
        split = services.make_split(version=_latest(dataset), created_by=signed_in(request), **form.cleaned_data)
        counts = ", ".join(f"{split.counts[part]:,} in {part}" for part in Member.Part.values)
        return f"{split.name}: {counts}."

    def _search(self, request: HttpRequest, dataset: Dataset) -> str:
        form = SearchForm(request.POST)
        if not form.is_valid():
            raise DomainError(first_error(form))
        services.find_duplicates(version=_latest(dataset), created_by=signed_in(request), **form.cleaned_data)
        return "The search for duplicates has begun."

    def _remove(self, request: HttpRequest, dataset: Dataset) -> str:
        chosen = request.POST.getlist("number")
        numbers = [int(text) for text in chosen if text.isascii() and text.isdecimal() and len(text) < 10]
        if not numbers:
            raise DomainError("Tick the examples that are to be removed.")
        made = services.remove_examples(dataset=dataset, numbers=numbers, created_by=signed_in(request))
        return f"{made} is there: {made.examples:,} example{'s' * (made.examples != 1)}."

    def _remove_duplicates(self, request: HttpRequest, dataset: Dataset) -> str:
        made = services.remove_duplicates(search=_found(request, dataset), created_by=signed_in(request))
        return f"{made} is there: {made.examples:,} example{'s' * (made.examples != 1)}."

    def _cancel_import(self, request: HttpRequest, dataset: Dataset) -> str:
        job = _import(request, dataset)
        return "It is being cancelled." if services.cancel_import(job=job) else f"It is {job.status} already."

    def _cancel_search(self, request: HttpRequest, dataset: Dataset) -> str:
        search = _found(request, dataset)
        return "It is being cancelled." if services.cancel_search(search=search) else f"It is {search.status} already."


def _latest(dataset: Dataset) -> Version:
    version = versions.latest(dataset)
    if version is None:
        raise DomainError("The dataset has no examples yet: upload a file first.")
    return version


def _import(request: HttpRequest, dataset: Dataset) -> Import:
    job = Import.objects.filter(dataset=dataset, uid=_uid(request)).first()
    if job is None:
        raise Http404("No such import.")
    return job


def _found(request: HttpRequest, dataset: Dataset) -> DuplicateSearch:
    rows = DuplicateSearch.objects.filter(version__dataset=dataset, uid=_uid(request))
    search = rows.select_related("version__dataset").first()
    if search is None:
        raise Http404("No such search.")
    return search


def _uid(request: HttpRequest) -> str:
    return request.POST.get("id", "").replace("\0", "")
