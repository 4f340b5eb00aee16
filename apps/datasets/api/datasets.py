"""/v1/datasets: examples under a name, in versions that never change. An extension of OpenAI's API."""

import json
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Project, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, validated_query
from apps.core.api.schema import list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.datasets import examples, services, versions
from apps.datasets.api.serializers import (
    ChangedDatasetSerializer,
    DatasetDeletedSerializer,
    DatasetQuery,
    DatasetSerializer,
    ExampleQuery,
    ExampleSerializer,
    NewDatasetSerializer,
    NewSplitSerializer,
    RemovalSerializer,
    SplitSerializer,
    VersionQuery,
    VersionSerializer,
)
from apps.datasets.models import Dataset, Split, Version

READ_WRITE: dict[str, str] = {
    "GET": Scope.DATASETS_READ,
    "POST": Scope.DATASETS_WRITE,
    "DELETE": Scope.DATASETS_WRITE,
}


class DatasetsView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="list_datasets", parameters=[DatasetQuery], responses=responses(list_of(DatasetSerializer), 400)
    )
    def get(self, request: Request) -> Response:
        found, has_more = page(datasets(self.project), validated_query(DatasetQuery, request))
        return Response(list_object(DatasetSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_dataset",
        request=NewDatasetSerializer,
        responses=responses(DatasetSerializer, 400, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        values = validated_body(NewDatasetSerializer, request)

        def run() -> dict[str, Any]:
            return shown(services.create_dataset(project=self.project, **values))

        return once(request, owner=self.project.uid, fingerprint=json.dumps(values, sort_keys=True), run=run)


class DatasetView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(operation_id="retrieve_dataset", responses=responses(DatasetSerializer, 404))
    def get(self, request: Request, dataset_id: str) -> Response:
        return Response(DatasetSerializer(find(datasets(self.project), dataset_id, "dataset")).data)

    @extend_schema(
        operation_id="update_dataset",
        request=ChangedDatasetSerializer,
        responses=responses(DatasetSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """What is left out stays as it is."""
        dataset = find(datasets(self.project), dataset_id, "dataset")
        values = validated_body(ChangedDatasetSerializer, request)
        return Response(shown(services.update_dataset(dataset=dataset, **values)))

    @extend_schema(operation_id="delete_dataset", responses=responses(DatasetDeletedSerializer, 404, 409))
    def delete(self, request: Request, dataset_id: str) -> Response:
        """Its examples, runs, answers and reviews go with it; files of exports stay."""
        services.delete_dataset(dataset=find(datasets(self.project), dataset_id, "dataset"))
        return Response({"id": dataset_id, "object": "dataset", "deleted": True})


class VersionsView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="list_dataset_versions",
        parameters=[VersionQuery],
        responses=responses(list_of(VersionSerializer), 400, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        """The latest first."""
        dataset, query = find(datasets(self.project), dataset_id, "dataset"), validated_query(VersionQuery, request)
        rows = Version.objects.filter(dataset=dataset).select_related("dataset").order_by("-number")
        if "after" in query:
            rows = rows.filter(number__lt=query["after"])
        found = list(rows[: query["limit"] + 1])
        kept = found[: query["limit"]]
        return Response(_numbered(VersionSerializer, kept, has_more=len(found) > len(kept)))


class ExamplesView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="list_dataset_examples",
        parameters=[ExampleQuery],
        responses=responses(list_of(ExampleSerializer), 400, 404, 409),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        dataset, query = find(datasets(self.project), dataset_id, "dataset"), validated_query(ExampleQuery, request)
        number, order = query.pop("version", None), query.pop("order")
        shown_page = examples.read_page(version_of(dataset, number), newest=order == "desc", **query)
        return Response(_numbered(ExampleSerializer, shown_page.examples, has_more=shown_page.after is not None))


class RemoveExamplesView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="remove_dataset_examples",
        request=RemovalSerializer,
        responses=responses(VersionSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """A new version without them; earlier versions keep them."""
        dataset = find(datasets(self.project), dataset_id, "dataset")
        values = validated_body(RemovalSerializer, request)
        version = services.remove_examples(dataset=dataset, numbers=values["examples"], note=values["note"])
        return Response(VersionSerializer(version).data)


class SplitsView(ProjectView):
    required_scopes = READ_WRITE

    @extend_schema(
        operation_id="list_dataset_splits",
        parameters=[DatasetQuery],
        responses=responses(list_of(SplitSerializer), 400, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        dataset = find(datasets(self.project), dataset_id, "dataset")
        rows = Split.objects.filter(version__dataset=dataset).select_related("version")
        found, has_more = page(rows, validated_query(DatasetQuery, request))
        return Response(list_object(SplitSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_dataset_split",
        request=NewSplitSerializer,
        responses=responses(SplitSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """Who is in which part is stored: the same seed and shares divide the same examples in the same way."""
        dataset = find(datasets(self.project), dataset_id, "dataset")
        values = validated_body(NewSplitSerializer, request)
        fingerprint = json.dumps(values, sort_keys=True)
        version = version_of(dataset, values.pop("version", None))

        def run() -> dict[str, Any]:
            return dict(SplitSerializer(services.make_split(version=version, **values)).data)

        return once(request, owner=self.project.uid, fingerprint=fingerprint, run=run)


def datasets(project: Project) -> QuerySet[Dataset]:
    """With what a dataset shows of its latest version."""
    latest = Version.objects.filter(dataset=OuterRef("pk")).order_by("-number")
    return Dataset.objects.of(project).annotate(
        latest=Subquery(latest.values("number")[:1]),
        latest_examples=Coalesce(Subquery(latest.values("examples")[:1]), 0),
    )


def shown(dataset: Dataset) -> dict[str, Any]:
    return dict(DatasetSerializer(datasets(dataset.project).get(pk=dataset.pk)).data)


def version_of(dataset: Dataset, number: int | None) -> Version:
    """That version, or the latest. Raises `ApiError` 404, and `Conflict` for a dataset that has none."""
    if number is None:
        version = versions.latest(dataset)
        if version is None:
            raise Conflict("The dataset has no version yet: import a file first.")
        return version
    found = Version.objects.filter(dataset=dataset, number=number).select_related("dataset").first()
    if found is None:
        raise ApiError(404, f"The dataset has no version {number}.", "version_not_found", "version")
    return found


def _numbered(item: Any, rows: list[Any], *, has_more: bool) -> dict[str, Any]:
    """A page of what has a number within its dataset instead of an id."""
    numbers = [str(row.number) for row in rows]
    return {
        "object": "list",
        "data": list(item(rows, many=True).data),
        "first_id": numbers[0] if numbers else None,
        "last_id": numbers[-1] if numbers else None,
        "has_more": has_more,
    }
