"""/v1/datasets/{id}/imports and …/duplicates: jobs that go on by themselves."""

import json
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Project, Scope
from apps.batches.models import File
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, validated_query
from apps.core.api.schema import list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.datasets import duplicates, services
from apps.datasets.api.datasets import READ_WRITE, datasets, version_of
from apps.datasets.api.serializers import (
    DatasetQuery,
    ImportSerializer,
    NewImportSerializer,
    NewPreviewSerializer,
    NewSearchSerializer,
    PairQuery,
    PreviewSerializer,
    SearchSerializer,
    SearchWithPairsSerializer,
    VersionSerializer,
)
from apps.datasets.imports import job as importing
from apps.datasets.models import Dataset, Duplicate, DuplicateSearch, Import
from apps.events import sse

EVENTS = {(200, "text/event-stream"): OpenApiTypes.STR}


class ImportsView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="list_dataset_imports",
        parameters=[DatasetQuery],
        responses=responses(list_of(ImportSerializer), 400, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        found, has_more = page(_imports(self.project, dataset_id), validated_query(DatasetQuery, request))
        return Response(list_object(ImportSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_dataset_import",
        request=NewImportSerializer,
        responses=responses(ImportSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """A new version with the file's rows. It goes on by itself: watch its events, or look at it until it ends."""
        dataset = find(datasets(self.project), dataset_id, "dataset")
        values = validated_body(NewImportSerializer, request)
        fingerprint = json.dumps(values, sort_keys=True)
        file = _file(self.project, values.pop("file_id"))

        def run() -> dict[str, Any]:
            return dict(ImportSerializer(services.start_import(dataset=dataset, file=file, **values)).data)

        return once(request, owner=self.project.uid, fingerprint=fingerprint, run=run)


class PreviewView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_READ}
    repeats_are_harmless = True

    @extend_schema(
        operation_id="preview_dataset_import",
        request=NewPreviewSerializer,
        responses=responses(PreviewSerializer, 400, 404, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """What an import would make of the file's first five rows. Nothing is stored."""
        find(datasets(self.project), dataset_id, "dataset")
        values = validated_body(NewPreviewSerializer, request)
        seen = services.preview(file=_file(self.project, values.pop("file_id")), **values)
        return Response(PreviewSerializer(seen).data)


class ImportView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(operation_id="retrieve_dataset_import", responses=responses(ImportSerializer, 404))
    def get(self, request: Request, dataset_id: str, import_id: str) -> Response:
        return Response(ImportSerializer(find(_imports(self.project, dataset_id), import_id, "import")).data)


class CancelImportView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(operation_id="cancel_dataset_import", request=None, responses=responses(ImportSerializer, 404, 409))
    def post(self, request: Request, dataset_id: str, import_id: str) -> Response:
        """It stops within seconds, and nothing of it is kept."""
        job = find(_imports(self.project, dataset_id), import_id, "import")
        if not services.cancel_import(job=job) and job.status in (Import.Status.COMPLETED, Import.Status.FAILED):
            raise Conflict(f"Cannot cancel an import with status '{job.status}'.")
        return Response(ImportSerializer(job).data)


class ImportEventsView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="streamDatasetImportEvents",
        summary="Watch an import",
        description="Server-sent events: `progress` with the bytes so far after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | EVENTS,
    )
    def get(self, request: Request, dataset_id: str, import_id: str) -> StreamingHttpResponse:
        job = find(_imports(self.project, dataset_id), import_id, "import")
        return sse.stream(importing.TOPIC, job.uid, self.key)


class SearchesView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="list_duplicate_searches",
        parameters=[DatasetQuery],
        responses=responses(list_of(SearchSerializer), 400, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        found, has_more = page(_searches(self.project, dataset_id), validated_query(DatasetQuery, request))
        return Response(list_object(SearchSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_duplicate_search",
        request=NewSearchSerializer,
        responses=responses(SearchSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """Which examples say what an earlier one says, exactly or nearly."""
        dataset = find(datasets(self.project), dataset_id, "dataset")
        values = validated_body(NewSearchSerializer, request)
        fingerprint = json.dumps(values, sort_keys=True)
        version = version_of(dataset, values.pop("version", None))

        def run() -> dict[str, Any]:
            return dict(SearchSerializer(services.find_duplicates(version=version, **values)).data)

        return once(request, owner=self.project.uid, fingerprint=fingerprint, run=run)


class SearchView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="retrieve_duplicate_search",
        parameters=[PairQuery],
        responses=responses(SearchWithPairsSerializer, 400, 404),
    )
    def get(self, request: Request, dataset_id: str, search_id: str) -> Response:
        """With a page of what it found, once it is completed."""
        search = find(_searches(self.project, dataset_id), search_id, "duplicates")
        query = validated_query(PairQuery, request)
        found: list[Duplicate] = []
        if search.status == DuplicateSearch.Status.COMPLETED:
            rows = Duplicate.objects.filter(search=search, pk__gt=query["after"]).select_related("example", "of")
            rows = rows.only("search", "similarity", "example__number", "of__number").order_by("pk")
            found = list(rows[: query["limit"] + 1])
        pairs = found[: query["limit"]]
        more = {"pairs": pairs, "next_after": pairs[-1].pk if len(found) > len(pairs) else None}
        vars(search).update(more)
        return Response(SearchWithPairsSerializer(search).data)


class CancelSearchView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="cancel_duplicate_search", request=None, responses=responses(SearchSerializer, 404, 409)
    )
    def post(self, request: Request, dataset_id: str, search_id: str) -> Response:
        search = find(_searches(self.project, dataset_id), search_id, "duplicates")
        if not services.cancel_search(search=search) and search.status in ("completed", "failed"):
            raise Conflict(f"Cannot cancel a search with status '{search.status}'.")
        return Response(SearchSerializer(search).data)


class RemoveDuplicatesView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="remove_duplicates", request=None, responses=responses(VersionSerializer, 400, 404, 409)
    )
    def post(self, request: Request, dataset_id: str, search_id: str) -> Response:
        """A new version without the duplicates that were found."""
        search = find(_searches(self.project, dataset_id), search_id, "duplicates")
        return Response(VersionSerializer(services.remove_duplicates(search=search)).data)


class SearchEventsView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="streamDuplicateSearchEvents",
        summary="Watch a search for duplicates",
        description="Server-sent events: `progress` with the examples so far after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | EVENTS,
    )
    def get(self, request: Request, dataset_id: str, search_id: str) -> StreamingHttpResponse:
        search = find(_searches(self.project, dataset_id), search_id, "duplicates")
        return sse.stream(duplicates.TOPIC, search.uid, self.key)


def _dataset(project: Project, uid: str) -> Dataset:
    return find(Dataset.objects.of(project), uid, "dataset")


def _imports(project: Project, dataset_id: str) -> QuerySet[Import]:
    rows = Import.objects.of(project).filter(dataset=_dataset(project, dataset_id))
    return rows.select_related("dataset", "run", "version", "errors_file")


def _searches(project: Project, dataset_id: str) -> QuerySet[DuplicateSearch]:
    rows = DuplicateSearch.objects.of(project).filter(version__dataset=_dataset(project, dataset_id))
    return rows.select_related("version__dataset")


def _file(project: Project, uid: str) -> File:
    """What a body names. Raises `ApiError` 404 with the parameter."""
    file = File.objects.of(project).unexpired().filter(uid=uid).first() if "\0" not in uid else None
    if file is None:
        raise ApiError(404, f"No such file: {uid}", "file_not_found", "file_id")
    return file
