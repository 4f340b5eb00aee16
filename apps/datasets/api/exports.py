"""/v1/exports: examples with the chosen answers as a file, which /v1/files/{id}/content then gives."""

import json
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Project, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, page_query, validated_query
from apps.core.api.schema import ConstantField, UnixField, list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.datasets.exports import services as exports
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.job import TOPIC
from apps.datasets.exports.selection import INCLUDE, LABEL_POLICIES, LEAVE_OUT, PAIR_POLICIES, POLICIES
from apps.datasets.models import Dataset, Export, Member, Run, Split
from apps.datasets.reviews.filters import Filters
from apps.events import sse


class NewExportSerializer(serializers.Serializer[Any]):
    dataset = serializers.CharField(max_length=50, help_text="The dataset's id.")
    run = serializers.CharField(
        max_length=50, required=False, help_text="Of its items; left out: the examples of a version."
    )
    format = serializers.ChoiceField(list(FORMATS))
    answers = serializers.CharField(
        max_length=210,
        required=False,
        default="",
        help_text=(
            f"{', '.join(POLICIES)}, column:LABEL; for pairs {', '.join(PAIR_POLICIES)};"
            f" for kto these or {', '.join(LABEL_POLICIES)}."
        ),
    )
    filters = serializers.DictField(
        child=serializers.CharField(), required=False, default=dict, help_text="As in a run's list of items."
    )
    split = serializers.CharField(max_length=50, required=False, help_text="The split's id; its examples only.")
    part = serializers.ChoiceField(
        Member.Part.values, required=False, default="", help_text="Of the split; left out: all of it."
    )
    incomplete = serializers.ChoiceField(
        [LEAVE_OUT, INCLUDE],
        required=False,
        default=LEAVE_OUT,
        help_text="Answers that are cut off, filtered or refused, and that nobody starred all the same.",
    )
    repository = serializers.CharField(
        max_length=200,
        required=False,
        default="",
        help_text="owner/name of a private dataset on the hub, where a `huggingface` folder is put too.",
    )


class ExportSerializer(serializers.Serializer[Export]):
    id = serializers.CharField(source="uid")
    object = ConstantField("export")
    dataset = serializers.CharField(source="dataset.uid")
    run = serializers.CharField(source="run.uid", default=None, allow_null=True)
    format = serializers.ChoiceField(list(FORMATS))
    answers = serializers.CharField(source="spec.answers")
    filters = serializers.DictField(source="spec.filters")
    split = serializers.CharField(source="spec.split", allow_blank=True)
    part = serializers.CharField(source="spec.part", allow_blank=True)
    incomplete = serializers.CharField(source="spec.incomplete", default=LEAVE_OUT)
    repository = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(Export.Status.values)
    message = serializers.CharField(allow_blank=True, help_text="Why it failed, or what was left out.")
    completed = serializers.IntegerField(source="done", help_text="Rows so far.")
    total = serializers.IntegerField()
    rows = serializers.IntegerField(help_text="In the file.")
    file_id = serializers.CharField(source="file.uid", default=None, allow_null=True)
    manifest_file_id = serializers.CharField(source="manifest_file.uid", default=None, allow_null=True)
    left_out_file_id = serializers.CharField(
        source="left_out_file.uid", default=None, allow_null=True,
        help_text="A file with each example that was left out: its number, the file and line that it came from, why.",
    )  # fmt: skip
    manifest = serializers.DictField(help_text="How the rows were chosen; the file's bytes and sha256.")
    created_at = UnixField()
    ended_at = UnixField(allow_null=True)


class ExportDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("export")
    deleted = serializers.BooleanField()


class ExportQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    pass


class ExportsView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ, "POST": Scope.DATASETS_WRITE}

    @extend_schema(
        operation_id="list_exports", parameters=[ExportQuery], responses=responses(list_of(ExportSerializer), 400)
    )
    def get(self, request: Request) -> Response:
        found, has_more = page(_exports(self.project), validated_query(ExportQuery, request))
        return Response(list_object(ExportSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_export",
        request=NewExportSerializer,
        responses=responses(ExportSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """It goes on by itself. Once it is `completed`, its file is downloaded as any other."""
        values = validated_body(NewExportSerializer, request)
        return once(
            request,
            owner=self.project.uid,
            fingerprint=json.dumps(values, sort_keys=True),
            run=lambda: self._start(values),
        )

    def _start(self, values: dict[str, Any]) -> dict[str, Any]:
        runs, splits = Run.objects.of(self.project), Split.objects.filter(version__dataset__project=self.project)
        export = exports.start_export(
            dataset=_named(Dataset.objects.of(self.project), values["dataset"], "dataset"),
            format=values["format"],
            run=_named(runs.select_related("version"), values["run"], "run") if "run" in values else None,
            filters=Filters.named(values["filters"]),
            split=_named(splits.select_related("version"), values["split"], "split") if "split" in values else None,
            part=values["part"],
            answers=values["answers"],
            repository=values["repository"],
            incomplete=values["incomplete"],
        )
        return dict(ExportSerializer(export).data)


class ExportView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ, "DELETE": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="retrieve_export", responses=responses(ExportSerializer, 404))
    def get(self, request: Request, export_id: str) -> Response:
        return Response(ExportSerializer(find(_exports(self.project), export_id, "export")).data)

    @extend_schema(operation_id="delete_export", responses=responses(ExportDeletedSerializer, 404, 409))
    def delete(self, request: Request, export_id: str) -> Response:
        """Its files go with it."""
        exports.delete_export(export=find(_exports(self.project), export_id, "export"))
        return Response({"id": export_id, "object": "export", "deleted": True})


class CancelExportView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="cancel_export", request=None, responses=responses(ExportSerializer, 404, 409))
    def post(self, request: Request, export_id: str) -> Response:
        """It stops within seconds, and nothing of it is kept."""
        export = find(_exports(self.project), export_id, "export")
        if not exports.cancel_export(export=export) and export.status in (
            Export.Status.COMPLETED,
            Export.Status.FAILED,
        ):
            raise Conflict(f"Cannot cancel an export with status '{export.status}'.")
        return Response(ExportSerializer(export).data)


class ExportEventsView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ}

    @extend_schema(
        operation_id="streamExportEvents",
        summary="Watch an export",
        description="Server-sent events: `progress` with the rows so far after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, export_id: str) -> StreamingHttpResponse:
        return sse.stream(TOPIC, find(_exports(self.project), export_id, "export").uid, self.key)


def _exports(project: Project) -> QuerySet[Export]:
    return Export.objects.of(project).select_related("dataset", "run", "file", "manifest_file", "left_out_file")


def _named(rows: QuerySet[Any], uid: str, noun: str) -> Any:
    """What a body names. Raises `ApiError` 404 with the parameter."""
    row = rows.filter(uid=uid).first()
    if row is None:
        raise ApiError(404, f"No such {noun}: {uid}", f"{noun}_not_found", noun)
    return row
